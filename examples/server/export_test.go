package main

// Main is the server.
func Main() { main() }
