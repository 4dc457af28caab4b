"""Files that hold many: archives of images, tables of rows."""
