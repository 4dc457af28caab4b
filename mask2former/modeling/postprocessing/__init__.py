"""From queries to results: merging of masks, output sizes, test-time augmentation."""
