"""Commands of `faust -A app`: one file each, registered on the application by its factory."""
