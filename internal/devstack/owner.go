package devstack

import (
	"fmt"
	"os"
)

// process names one life of a process: an id is used again after its process is gone.
type process struct {
	PID     int
	Started string // as the system says it
	name    string
}

// runs reports whether this very process still runs.
func (p process) runs() bool {
	now, ok := lookUp(p.PID)
	return ok && now.Started == p.Started
}

func (p process) String() string { return fmt.Sprintf("%d-%s", p.PID, p.Started) }

// runOwner returns the process whose life the shared stack has: the `go test` that started this test binary,
// else, when it was started by hand or by a debugger, this process itself.
func runOwner() (process, error) {
	if parent, ok := lookUp(os.Getppid()); ok && parent.name == "go" {
		return parent, nil
	}
	self, ok := lookUp(os.Getpid())
	if !ok {
		return process{}, fmt.Errorf("process %d: cannot read when it started", os.Getpid())
	}
	return self, nil
}
