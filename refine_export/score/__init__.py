"""Quality against true middle frames, over the data sets that papers print figures of."""
