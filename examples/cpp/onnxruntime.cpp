// Segment a picture with ONNX Runtime: onnxruntime PICTURE MODEL.onnx LABELS.png
//
// MODEL.onnx comes from `repvgg-seg deploy --formats onnx`. LABELS.png has the class index of every pixel, as
// `repvgg-seg predict --labels-only` writes it.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>

namespace {

// Whether the description that the file carries, a JSON text, asks for pixels in the order blue, green, red.
bool takes_bgr(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("repvgg_seg", allocator);
  if (!text) throw std::runtime_error("the model has no description; expected a file that repvgg-seg deploy wrote");
  return std::string(text.get()).find(R"("channels": "BGR")") != std::string::npos;
}

cv::Mat segment(Ort::Session& session, cv::Mat picture) {
  auto input = session.GetInputTypeInfo(0), output = session.GetOutputTypeInfo(0);
  const auto sizes = input.GetTensorTypeAndShapeInfo().GetShape();  // (N, H, W, C), where -1 is an open size.
  if (input.GetTensorTypeAndShapeInfo().GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 || sizes.size() != 4 ||
      sizes[3] != picture.channels() || output.GetTensorTypeAndShapeInfo().GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
    throw std::runtime_error("expected a model that takes 3 channels of 8 bits and returns class indices (no --logits)");
  const std::array<int64_t, 4> shape{1, picture.rows, picture.cols, picture.channels()};
  for (int axis = 0; axis < 3; ++axis)
    if (sizes[axis] > 0 && sizes[axis] != shape[axis])
      throw std::runtime_error("the model takes " + std::to_string(sizes[0]) + " image(s) of " + std::to_string(sizes[1]) + "x" +
                               std::to_string(sizes[2]) + " pixels, the picture has " + std::to_string(picture.rows) + "x" +
                               std::to_string(picture.cols) + "; resize it, or export the model for its size");
  if (!takes_bgr(session))
    picture.forEach<cv::Vec3b>([](cv::Vec3b& pixel, const int*) { std::swap(pixel[0], pixel[2]); });
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto images = Ort::Value::CreateTensor<uint8_t>(memory, picture.data, picture.total() * picture.channels(), shape.data(), 4);
  const char *names[] = {"images"}, *results[] = {"labels"};
  auto labels = session.Run(Ort::RunOptions{nullptr}, names, &images, 1, results, 1);
  return cv::Mat(picture.rows, picture.cols, CV_8U, labels[0].GetTensorMutableData<uint8_t>()).clone();
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: " << arguments[0] << " PICTURE MODEL.onnx LABELS.png\n";
    return 2;
  }
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  try {
    const std::string path = arguments[1], model = arguments[2], out = arguments[3];
    cv::Mat picture = cv::imread(path, cv::IMREAD_COLOR);
    if (picture.empty()) throw std::runtime_error(path + " is not a picture that can be read");
    if (!std::ifstream(model)) throw std::runtime_error(model + " cannot be read");
    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR);
    Ort::Session session(environment, model.c_str(), Ort::SessionOptions{});  // On Windows, the path has wide characters.
    if (!cv::imwrite(out, segment(session, picture))) throw std::runtime_error(out + " cannot be written");
  } catch (const std::exception& error) {
    std::string reason = error.what();
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    std::cerr << "error: " << reason << "\n";
    return 1;
  }
}
