package main

// ownFiles is how many files the daemon needs for itself: journal, mirror, control store, source and sinks.
const ownFiles = 192

// placesFor is how many connections of clients there may be when the process may have so many files open: half as many, as long as
// that leaves the daemon its own, and an eighth at least; 0, which is no bound, when the files have none.
func placesFor(files int) int {
	if files == 0 {
		return 0
	}
	return max(min(files/2, files-ownFiles), files/8, 1)
}
