"""What forms share: the file as a whole, fields, classes, images, objects, masks."""
