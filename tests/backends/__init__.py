"""The stores, against real files and real servers."""
