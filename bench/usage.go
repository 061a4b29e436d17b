package main

// usage is what a process has used of the machine. Values are zero where the system does not tell.
type usage struct {
	CPUSeconds float64 `json:"cpu_seconds"` // user and system time
	PeakBytes  int64   `json:"peak_bytes"`  // the most memory that was resident at a time, since the process started
}

// since is the CPU time from an earlier look at the same process until u, and the peak of u.
func (u usage) since(earlier usage) usage {
	u.CPUSeconds -= earlier.CPUSeconds
	return u
}
