package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// randomJournal appends batches of all shapes: of many transactions and of parts of large ones, with and without events.
func randomJournal(rt *rapid.T, w *world) {
	for range rapid.IntRange(1, 10).Draw(rt, "batches") {
		var chunks []chunk
		for range rapid.IntRange(1, 4).Draw(rt, "transactions") {
			c := chunk{
				events: rapid.IntRange(0, 5).Draw(rt, "events"), part: rapid.IntRange(0, 3).Draw(rt, "part") == 0,
				late: time.Duration(rapid.IntRange(-3000, 3000).Draw(rt, "late")) * time.Millisecond,
			}
			if c.part {
				c.events++ // a part without events closes a transaction
			}
			chunks = append(chunks, c)
			if c.part {
				break
			}
		}
		w.append(chunks...)
	}
}

// bound is one end of a range: as the projector is asked, and what it is to mean.
type bound struct {
	position Position
	reaches  func(*transaction) bool // as a first one
	keeps    func(*transaction) bool // as a last one
}

func randomBound(rt *rapid.T, w *world) bound {
	switch rapid.IntRange(0, 3).Draw(rt, "kind") {
	case 0:
		lsn := pglogrepl.LSN(rapid.IntRange(0, len(w.all)*0x100+0x80).Draw(rt, "lsn"))
		return bound{AtLSN(lsn), func(x *transaction) bool { return x.lsn >= lsn }, func(x *transaction) bool { return x.lsn <= lsn }}
	case 1:
		at := began.Add(time.Duration(rapid.IntRange(-5000, 1000*len(w.all)+8000).Draw(rt, "time")) * time.Millisecond)
		if rapid.Bool().Draw(rt, "exactly") && len(w.all) > 0 {
			at = w.all[rapid.IntRange(0, len(w.all)-1).Draw(rt, "of")].at
		}
		return bound{AtTime(at), func(x *transaction) bool { return !x.at.Before(at) }, func(x *transaction) bool { return !x.at.After(at) }}
	case 2:
		head := w.journal.Head().Offset
		first := event.NewOffset(w.journal.First(), 0)
		offset := first + event.Offset(rapid.Uint64Range(0, uint64(head-first)).Draw(rt, "offset"))
		if all := w.offsets(everything); rapid.Bool().Draw(rt, "exactly") && len(all) > 0 {
			offset = all[rapid.IntRange(0, len(all)-1).Draw(rt, "of")]
		}
		return bound{At(offset), func(x *transaction) bool { return x.end > offset }, func(x *transaction) bool { return x.events[0] <= offset }}
	default:
		all := func(*transaction) bool { return true }
		return bound{Position{kind: rapid.SampledFrom([]positionKind{atBeginning, atEnd}).Draw(rt, "edge")}, all, all}
	}
}

// Whatever the transactions are and however they lie in batches, a range gives exactly its transactions, all of each, in order.
func TestRangesAreExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, journal.Config{CacheBytes: 1})
		defer w.close()
		randomJournal(rt, w)
		f := newFile()
		p := w.projector(f, func(c *Config) { c.BatchEvents = rapid.IntRange(1, 8).Draw(rt, "slice") })
		for range 12 {
			checkRange(rt, w, p, f, randomBound(rt, w), randomBound(rt, w))
		}
		if live, _ := f.has(t); len(live) != 0 {
			rt.Fatalf("replayed events are not told from live ones: %v", live)
		}
	})
}

// checkRange checks what a range is read as, and what is replayed of it.
func checkRange(rt *rapid.T, w *world, p *Projector, f *file, from, to bound) {
	if from.position.kind == atEnd || to.position.kind == atBeginning {
		return // nothing, and not to be asked for
	}
	want := w.offsets(func(x *transaction) bool { return len(x.events) > 0 && x.whole && from.reaches(x) && to.keeps(x) })
	if from.position.kind == atOffset && to.position.kind == atOffset && to.position.offset < from.position.offset {
		want = nil // also when both are in one transaction
	}
	what := fmt.Sprintf("%s to %s", from.position, to.position)

	span, err := Resolve(rt.Context(), w.journal, Range{from.position, to.position})
	if err != nil {
		rt.Fatalf("%s: %v", what, err)
	}
	r := NewReader(w.journal, span, Filter{})
	var got []event.Offset
	for {
		events, err := r.Read(rt.Context(), Bounds{Events: 3, Batches: 2})
		if err != nil {
			break
		}
		for i := range events {
			got = append(got, events[i].Offset)
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("%s: read %v, want %v", what, got, want)
	}

	f.again = nil
	asked := asked(rt, w, from.position, to.position)
	result, err := p.Replay(rt.Context(), asked, nil)
	if err != nil {
		rt.Fatalf("%s: %v", what, err)
	}
	if _, again := f.has(w.t); !slices.Equal(again, want) || result.Touching != int64(len(want)) {
		rt.Fatalf("%s, %+v: replayed %v, want %v, told %+v", what, asked, again, want, result)
	}
	asked.DryRun, f.again = true, nil
	dry, err := p.Replay(rt.Context(), asked, nil)
	if _, again := f.has(w.t); err != nil || len(again) != 0 || dry != result {
		rt.Fatalf("%s: a dry run told %+v, not %+v, and replayed %v: %v", what, dry, result, again, err)
	}
}

// asked is a range as the API resolves it.
func asked(t *rapid.T, w *world, from, to Position) (what projectors.ReplayRange) {
	t.Helper()
	var err error
	switch from.kind {
	case atOffset:
		what.From = from.offset
	case atLSN:
		what.From, err = w.journal.SeekLSN(t.Context(), from.lsn)
		what.From++
	case atTime:
		what.From, err = w.journal.SeekTime(t.Context(), from.time)
		what.From, what.Since = what.From+1, from.time
	}
	if err != nil {
		t.Fatal(err)
	}
	switch to.kind {
	case atOffset:
		what.To = to.offset
	case atLSN:
		what.To, err = w.journal.SeekLSN(t.Context(), to.lsn+1)
	case atTime:
		what.To, err = w.journal.SeekTime(t.Context(), to.time.Add(time.Microsecond))
		what.Until = to.time
	}
	if err != nil {
		t.Fatal(err)
	}
	return what
}

// A replay runs beside the live events, in calls of its own, and leaves the checkpoint where it is.
func TestReplayBesideLiveEvents(t *testing.T) {
	w := newWorld(t, journal.Config{})
	for range 20 {
		w.append(chunk{events: 2}, chunk{events: 3})
	}
	old := w.offsets(everything)
	f := newFile()
	p := w.projector(f)
	stop := w.run(p)
	f.reach(t, len(old))
	replayed := make(chan error, 1)
	go func() {
		_, err := p.Replay(context.Background(), projectors.ReplayRange{From: old[8], To: old[80]}, nil)
		replayed <- err
	}()
	for range 20 {
		w.append(chunk{events: 4})
	}
	must(t, <-replayed)
	all := w.offsets(everything)
	live := f.reach(t, len(all))
	_, again := f.has(t)
	same(t, "live", live, all)
	same(t, "replayed", again, old[7:82]) // whole transactions
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	cp, found, err := LoadCheckpoint(t.Context(), w.control, "file")
	if err != nil || !found || cp.Offset != all[len(all)-1] || cp.LSN != w.all[len(w.all)-1].lsn+0x10 {
		t.Errorf("checkpoint: %+v %t %v", cp, found, err)
	}
	// It does not matter whether it runs.
	_, err = p.Replay(t.Context(), projectors.ReplayRange{From: all[0], To: all[0]}, nil)
	must(t, err)
	if after, _, _ := LoadCheckpoint(t.Context(), w.control, "file"); after != cp {
		t.Errorf("a replay moved the checkpoint to %+v", after)
	}
}

// A damaged batch ends a replay with its name. Nothing after it is handed on.
func TestReplayMeetsDamage(t *testing.T) {
	w := newWorld(t, journal.Config{CacheBytes: 1})
	for range 9 {
		w.append(chunk{events: 2})
	}
	all := w.offsets(everything)
	f := newFile()
	p := w.projector(f)
	damaged := all[8].Sequence()
	w.engine.flip(damaged)
	result, err := p.Replay(t.Context(), projectors.ReplayRange{From: all[2]}, nil)
	var corrupt *journal.CorruptError
	if !errors.As(err, &corrupt) || corrupt.From != damaged || corrupt.To != damaged {
		t.Fatalf("got %v", err)
	}
	_, again := f.has(t)
	same(t, "replayed", again, all[2:8])
	if result.Touching != 6 || result.Batches >= result.BatchesTotal {
		t.Errorf("told %+v", result)
	}
	w.engine.flip(0)
	f.again = nil
	if _, err = p.Replay(t.Context(), projectors.ReplayRange{From: all[2]}, nil); err != nil {
		t.Fatal(err)
	}
	_, again = f.has(t)
	same(t, "replayed when it was mended", again, all[2:])
}

// trimmed is a world whose journal has dropped its beginning.
func trimmed(t *testing.T) *world {
	w := newWorld(t, journal.Config{CacheBytes: 1, Retention: journal.Retention{Size: 1 << 20}})
	for w.journal.First() < 5 {
		w.append(chunk{events: 2, size: 32 << 10})
	}
	return w
}

func TestReplayOfWhatIsGone(t *testing.T) {
	w := trimmed(t)
	all := w.offsets(everything)
	oldest, _, err := w.journal.Oldest(t.Context())
	must(t, err)
	f := newFile()
	p := w.projector(f)
	_, err = p.Replay(t.Context(), projectors.ReplayRange{From: all[0]}, nil)
	var gone *projectors.NotRetainedError
	if !errors.As(err, &gone) || gone.Oldest != oldest || !strings.Contains(err.Error(), oldest.String()) {
		t.Fatalf("got %v", err)
	}
	if _, again := f.has(t); len(again) != 0 {
		t.Errorf("replayed %v", again)
	}
	_, err = p.Replay(t.Context(), projectors.ReplayRange{From: oldest.Offset}, nil)
	must(t, err)
	_, again := f.has(t)
	same(t, "what there is", again, all[slices.Index(all, oldest.Offset):])
}

func TestOneReplayAtATime(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 1})
	entered, leave := make(chan struct{}), make(chan struct{})
	f := newFile()
	f.handle = func([]event.Event) error {
		entered <- struct{}{}
		<-leave
		return nil
	}
	p := w.projector(f)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Replay(context.Background(), projectors.ReplayRange{}, nil)
		ended <- err
	}()
	<-entered
	if _, err := p.Replay(t.Context(), projectors.ReplayRange{}, nil); !errors.Is(err, projectors.ErrReplaying) {
		t.Errorf("got %v", err)
	}
	close(leave)
	must(t, <-ended)
}
