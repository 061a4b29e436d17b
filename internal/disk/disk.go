package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/lanternist/lanternist/internal/faultpoint"
)

// How long an operation waits between two attempts.
const (
	retryDelayMin = 20 * time.Millisecond
	retryDelayMax = time.Second
)

// Disk is the disk under one store. It is safe for concurrent use.
type Disk struct {
	store string
	log   *slog.Logger
	lost  chan struct{} // closed when err is set

	mu      sync.Mutex
	waiting []*Waiting // operations that wait now, the oldest first
	err     error      // of what does not pass
}

// Waiting is an operation that waits.
type Waiting struct {
	Store string    `json:"store" doc:"journal, mirror or control."`
	Path  string    `json:"path" doc:"The file that is to be written or opened."`
	Since time.Time `json:"since"`
	Error string    `json:"error" doc:"What is missing: room on the disk, or a file descriptor."`
}

// New is the disk under the store of that name.
func New(store string, log *slog.Logger) *Disk {
	return &Disk{store: store, log: log, lost: make(chan struct{})}
}

// Waiting says for how long the store has been waiting, and for what; false when it is not.
func (d *Disk) Waiting() (Waiting, bool) {
	if d == nil {
		return Waiting{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return Waiting{}, false
	}
	return *d.waiting[0], true
}

// Lost is closed when something failed that does not pass. Err then says what.
func (d *Disk) Lost() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.lost
}

// Err is what failed and does not pass; nil while nothing has.
func (d *Disk) Err() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// passes says whether an error is gone when somebody makes room, or gives up file descriptors.
func passes(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Retry runs f, which names a file or makes it larger, again until it does not fail with what passes. f must be safe to repeat.
func (d *Disk) Retry(path string, f func() error) error {
	err := f()
	if d == nil || err == nil || !passes(err) {
		return err
	}
	w := d.begin(path, err)
	defer d.end(w)
	for delay := retryDelayMin; ; delay = min(2*delay, retryDelayMax) {
		<-time.After(delay)
		if err = f(); err == nil || !passes(err) {
			return err
		}
	}
}

// WriteAll writes p with write, which returns how much it has written, going on where it stopped. An error that does not pass
// is remembered.
func (d *Disk) WriteAll(path string, p []byte, write func(p []byte, written int) (int, error)) (n int, err error) {
	err = d.Retry(path, func() error {
		more, err := write(p[n:], n)
		n += max(more, 0)
		return err
	})
	return n, d.Failed("write", path, err)
}

// Sync runs f, which makes a file durable. Its error does not pass, whatever it is.
func (d *Disk) Sync(path string, f func() error) error {
	if d == nil {
		return f()
	}
	err := faultpoint.Error("disk", d.store, "sync")
	if err == nil {
		err = f()
	}
	return d.Failed("sync", path, err)
}

// Failed remembers an error that does not pass, and returns it.
func (d *Disk) Failed(op, path string, err error) error {
	if d == nil || err == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = fmt.Errorf("%s: %s %s: %w", d.store, op, path, err)
		close(d.lost)
	}
	return err
}

func (d *Disk) begin(path string, cause error) *Waiting {
	w := &Waiting{Store: d.store, Path: path, Since: time.Now().UTC(), Error: cause.Error()}
	d.mu.Lock()
	d.waiting = append(d.waiting, w)
	first := len(d.waiting) == 1
	d.mu.Unlock()
	if first {
		d.log.Error("disk operation waits", "store", d.store, "path", path, "error", cause,
			"hint", "make room, or raise the limit of open files: it goes on by itself")
	}
	return w
}

func (d *Disk) end(w *Waiting) {
	d.mu.Lock()
	for i := range d.waiting {
		if d.waiting[i] == w {
			d.waiting = append(d.waiting[:i:i], d.waiting[i+1:]...)
			break
		}
	}
	last := len(d.waiting) == 0
	d.mu.Unlock()
	if last {
		d.log.Info("disk operations go on", "store", d.store, "waited", time.Since(w.Since).Round(time.Millisecond))
	}
}
