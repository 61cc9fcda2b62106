"""Programs that use the Object Store."""
