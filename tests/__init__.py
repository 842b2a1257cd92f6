"""The tests of mpcache; their folders mirror the package's."""
