"""Task heads: from what a distiller gives to predictions per segment. One file a task."""
