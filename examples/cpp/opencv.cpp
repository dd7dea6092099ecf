// Segment a picture with OpenCV, 4.9 or newer: opencv PICTURE MODEL.opencv.onnx LABELS.png
//
// MODEL.opencv.onnx comes from `repvgg-seg deploy --formats opencv --size H W`, and takes pictures of this size. LABELS.png has the
// class index of every pixel, as `repvgg-seg predict --labels-only` writes it.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>

namespace {

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The JSON value of a key in the description that the model carries.
std::string described(const std::string& model, const std::string& key) {
  const auto start = model.rfind("\"" + key + "\": ");
  if (start == std::string::npos) throw std::runtime_error("the model has no description; expected a file that repvgg-seg deploy wrote");
  const auto value = start + key.size() + 4;
  return model.substr(value, model.find_first_of(model[value] == '[' ? "]" : ",}", value) - value);
}

cv::Mat segment(const std::string& model, cv::Mat picture) {
  if (described(model, "output") != "\"labels\"") throw std::runtime_error("the model returns logits; export it without --logits");
  const auto size = described(model, "size"), found = "[" + std::to_string(picture.rows) + ", " + std::to_string(picture.cols);
  if (size != found)
    throw std::runtime_error("the model takes pictures of " + size + "] pixels, the picture has " + found +
                             "]; resize it, or export the model for its size");
  if (described(model, "channels") == "\"RGB\"")
    picture.forEach<cv::Vec3b>([](cv::Vec3b& pixel, const int*) { std::swap(pixel[0], pixel[2]); });
#if CV_VERSION_MAJOR >= 5
  cv::dnn::Net net = cv::dnn::readNetFromONNX(model.data(), model.size(), cv::dnn::ENGINE_CLASSIC);  // In which it was checked.
#else
  cv::dnn::Net net = cv::dnn::readNetFromONNX(model.data(), model.size());
#endif
  const int shape[] = {1, picture.rows, picture.cols, 3};
  cv::Mat images, labels;
  picture.reshape(1, 4, shape).convertTo(images, CV_32F);
  net.setInput(images);
  net.forward().reshape(1, picture.rows).convertTo(labels, CV_8U);  // OpenCV 4 gives them in floating point.
  return labels;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: " << arguments[0] << " PICTURE MODEL.opencv.onnx LABELS.png\n";
    return 2;
  }
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  try {
    const std::string path = arguments[1], model = arguments[2], out = arguments[3];
    cv::Mat picture = cv::imread(path, cv::IMREAD_COLOR);
    if (picture.empty()) throw std::runtime_error(path + " is not a picture that can be read");
    if (!cv::imwrite(out, segment(content_of(model), picture))) throw std::runtime_error(out + " cannot be written");
  } catch (const std::exception& error) {
    std::string reason = error.what();
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    std::cerr << "error: " << reason << "\n";
    return 1;
  }
}
