"""Where events go beside the wire."""
