"""What a server is, for stores and mutexes alike: names, outages, generations, and the clients of each kind."""
