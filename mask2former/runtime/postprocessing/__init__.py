"""From the outputs of an exported model to results, with numpy."""
