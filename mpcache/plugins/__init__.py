"""What plugs regions into other libraries by their own plugin systems; each of them needs that library."""
