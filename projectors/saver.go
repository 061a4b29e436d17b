package projectors

import (
	"context"
	"sync"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faultpoint"
)

// saver saves a generation's checkpoints in a goroutine of its own, so that neither the watermark nor the next round
// waits for them. It saves the newest it was offered, and not each of them: at most one in Config.CheckpointInterval while
// documents are written, one in Config.CheckpointIdle while none are, and one as soon as Config.CheckpointEvents have passed.
type saver struct {
	runner     *Runner
	generation Generation
	saved      func(Checkpoint) // called after each save
	wake       chan struct{}

	mu       sync.Mutex
	kept     event.Offset // of the checkpoint that the sink has, as far as is known
	wanted   Checkpoint
	events   uint64    // passed when wanted was offered
	unsaved  bool      // wanted is not saved
	moved    bool      // the promise of wanted is not saved
	wrote    bool      // documents were written since the last save
	at       time.Time // of the last save, by the monotonic clock
	atEvents uint64    // passed at the last save
}

// newSaver begins with the checkpoint that the sink has.
func newSaver(r *Runner, g Generation, cp Checkpoint, saved func(Checkpoint)) *saver {
	return &saver{runner: r, generation: g, saved: saved, wake: make(chan struct{}, 1), wanted: cp, kept: cp.Offset}
}

// held is the offset of the checkpoint that the sink has.
func (s *saver) held() event.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

// offer names the newest checkpoint, how many events have passed in all, and whether documents were written for it.
func (s *saver) offer(cp Checkpoint, events uint64, wrote bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.events, s.unsaved, s.wrote = cp, events, true, s.wrote || wrote
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// follow moves the promise of a checkpoint that waits to be saved. It is no reason to save one.
func (s *saver) follow(cp Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.moved = cp, true
}

// run saves until the context is done or an error is not transient.
func (s *saver) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if wait, ok := s.due(); ok {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-due:
			if err := s.save(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// due is in how long there is something to save; false when there is nothing.
func (s *saver) due() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := &s.runner.cfg
	switch {
	case !s.unsaved:
		return 0, false
	case s.events-s.atEvents >= uint64(cfg.CheckpointEvents):
		return 0, true
	case s.wrote:
		return max(0, time.Until(s.at.Add(cfg.CheckpointInterval))), true
	default:
		return max(0, time.Until(s.at.Add(cfg.CheckpointIdle))), true
	}
}

// save saves what was offered last.
func (s *saver) save(ctx context.Context) error {
	return s.runner.ask(ctx, "save checkpoint", func() error {
		s.mu.Lock()
		cp, events := s.wanted, s.events
		wrote := s.wrote
		s.wrote = false
		s.mu.Unlock()
		now := time.Now()
		cp.Time = now.UTC() // without the monotonic clock: by the wall clock alone, one that is set back would hold checkpoints back
		faultpoint.Hit(s.runner.cfg.Name, "checkpoint", "saving")
		err := s.generation.SaveCheckpoint(ctx, cp)
		faultpoint.Hit(s.runner.cfg.Name, "checkpoint", "saved")
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.wrote = s.wrote || wrote
			return err
		}
		s.at, s.atEvents, s.kept = now, events, cp.Offset
		s.unsaved = s.wanted.Offset != cp.Offset || s.wanted.Round != cp.Round || s.wanted.Served != cp.Served
		s.moved = s.wanted.LSN != cp.LSN
		s.saved(cp)
		return nil
	})
}

// last saves the newest checkpoint when it differs from the one saved before, be it only in its promise.
func (s *saver) last(ctx context.Context) error {
	s.mu.Lock()
	same := !s.unsaved && !s.moved
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.save(ctx)
}
