"""What needs a framework of its own to be imported. The host alone imports these modules."""
