"""Instance segmentation: COCO and boundary AP, and the accuracy of names of given masks."""
