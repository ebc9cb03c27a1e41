"""Images, videos, arrays and drawn scenes as inputs of the graphs."""
