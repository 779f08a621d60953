"""From trained models to graphs, one file a format. None of them runs code that came with a model."""
