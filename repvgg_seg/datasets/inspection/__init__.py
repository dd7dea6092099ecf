"""Finding out what a folder of images and labels holds."""
