package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
)

// Checkpoint is how far a projector has come.
type Checkpoint struct {
	Offset    event.Offset  `json:"offset"` // every event up to it is handled or parked
	LSN       pglogrepl.LSN `json:"lsn"`    // every transaction that committed before it is
	JournalID string        `json:"journal_id"`
	Time      time.Time     `json:"time"`
}

// checkpointKey is where a projector's checkpoint is.
func checkpointKey(name string) string { return "streams/checkpoint/" + name }

// LoadCheckpoint reads how far the projector of a name has come; false when it has none.
func LoadCheckpoint(ctx context.Context, store control.Store, name string) (cp Checkpoint, found bool, err error) {
	value, found, err := store.Get(ctx, checkpointKey(name))
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("read checkpoint of %s: %w", name, err)
	}
	if !found {
		return Checkpoint{}, false, nil
	}
	if err := json.Unmarshal(value, &cp); err != nil {
		return Checkpoint{}, false, projectors.Fatalf("have the checkpoint forgotten", "read checkpoint of %s: %w", name, err)
	}
	return cp, true, nil
}

// Forget removes the checkpoint of a name: a projector of that name begins where its Config.Start says.
func Forget(ctx context.Context, store control.Store, name string) error {
	if err := store.Delete(ctx, checkpointKey(name)); err != nil {
		return fmt.Errorf("remove checkpoint of %s: %w", name, err)
	}
	return nil
}

// resume is the offset after which to go on: the checkpoint's, or where Config.Start says.
func (p *Projector) resume(ctx context.Context) (Checkpoint, error) {
	cp, found, err := LoadCheckpoint(ctx, p.parts.Control, p.cfg.Name)
	if err != nil {
		return Checkpoint{}, err
	}
	j := p.parts.Journal
	if !found {
		after, err := begin(ctx, j, p.cfg.Start)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("begin at %s: %w", p.cfg.Start, err)
		}
		cp = Checkpoint{Offset: after, JournalID: j.Identity()}
		p.log.Info("projector begins", "at", p.cfg.Start.String(), "after", after)
		return cp, p.put(ctx, cp) // so that it does not begin elsewhere, should it end before its first event
	}
	if id := j.Identity(); cp.JournalID != id {
		return Checkpoint{}, projectors.Fatalf("say where it is to begin, and have its checkpoint forgotten",
			"the checkpoint is of journal %s, not of %s: its offset means nothing here", cp.JournalID, id)
	}
	if head := j.Head().Offset; cp.Offset > head {
		return Checkpoint{}, projectors.Fatalf("restore the newer journal, or have the checkpoint forgotten",
			"the journal ends at %s, before the checkpoint at %s: it is an older copy", head, cp.Offset)
	}
	if err := j.Retains(cp.Offset + 1); err != nil {
		return Checkpoint{}, notRetained(ctx, j, cp.Offset+1, err)
	}
	return cp, nil
}

func (p *Projector) put(ctx context.Context, cp Checkpoint) error {
	cp.Time = time.Now().UTC()
	value, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	if err := p.parts.Control.Put(ctx, checkpointKey(p.cfg.Name), value); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// save saves the checkpoint, when it has moved. Only then may the journal drop what is before it.
func (p *Projector) save(ctx context.Context) error {
	cp := p.checkpoint()
	if cp.Offset == p.saved {
		return nil
	}
	if err := p.repeat(ctx, func() error { return p.put(ctx, cp) }); err != nil {
		return err
	}
	p.saved, p.savedAt = cp.Offset, time.Now()
	p.parts.Journal.Retain(p.cfg.Name, cp.Offset)
	return nil
}

// due is how long the checkpoint may still wait.
func (p *Projector) due() time.Duration { return p.cfg.CheckpointInterval - time.Since(p.savedAt) }
