package journal_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
)

const mib = 1 << 20

// big is the n-th transaction with one event of about 20 KiB.
func big(n int) []journal.Part {
	p := journal.Transaction(n, 1)
	e := event.Event{Op: event.Insert, Schema: journal.Orders, After: journal.Text("1", strings.Repeat("x", 20<<10), "2")}
	p.Events = []event.Event{e}
	return []journal.Part{p}
}

// grow appends the big transactions from..to.
func grow(t testing.TB, j opened, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := j.Append(t.Context(), big(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	dir := t.TempDir()
	cfg := journal.Config{Retention: journal.Retention{Size: mib}, CacheBytes: 100 << 10}
	j := open(t, dir, cfg)
	for n := 1; n <= 300; n += 10 {
		grow(t, j, n, n+9)
		if s := j.Stats(t.Context()); s.Bytes > mib {
			t.Fatalf("%d bytes are retained", s.Bytes)
		}
	}
	s := j.Stats(t.Context())
	if s.Bytes < mib/2 || s.First < 200 || s.Stored > 2*mib {
		t.Errorf("after 6 MiB: %+v", s)
	}
	if _, err := j.Read(t.Context(), s.First-1); !errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("read what is trimmed: %v", err)
	}
	var trimmed *journal.TrimmedError
	if _, err := j.Next(t.Context(), event.NewOffset(5, 0)); !errors.As(err, &trimmed) || trimmed.First != s.First {
		t.Errorf("next after what is trimmed: %v", err)
	}
	if _, err := j.SeekLSN(t.Context(), 5000); !errors.As(err, &trimmed) {
		t.Errorf("seek to what is trimmed: %v", err)
	}
	if _, err := j.SeekTime(t.Context(), journal.Epoch.Add(5*time.Second)); !errors.As(err, &trimmed) {
		t.Errorf("seek to the time of what is trimmed: %v", err)
	}
	at, err := j.SeekLSN(t.Context(), 280*1000)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := j.Next(t.Context(), at); err != nil || b.Parts[0].XID != 280 {
		t.Errorf("seek to what is there: %+v, %v", b, err)
	}
	first, err := j.Read(t.Context(), s.First)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := j.SeekLSN(t.Context(), first.Parts[0].CommitLSN); err != nil || at != event.NewOffset(s.First, 0)-1 {
		t.Errorf("seek to the first that is retained: %s, %v", at, err)
	}
	if _, err := j.Next(t.Context(), event.NewOffset(s.First-1, 0)); err != nil {
		t.Errorf("next after the last that is trimmed: %v", err)
	}
	j = cold(t, j, dir, cfg)
	if got := j.Stats(t.Context()); got.First != s.First || got.Bytes != s.Bytes {
		t.Errorf("after reopening %+v, want %+v", got, s)
	}
	grow(t, j, 301, 400)
}

func TestABatchOverTheBoundIsTakenAlone(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{Retention: journal.Retention{Size: mib}})
	grow(t, j, 1, 10)
	p := big(11)
	p[0].Events[0].After = journal.Text("1", strings.Repeat("x", 3*mib), "2")
	if _, err := j.Append(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	grow(t, j, 12, 13)
	if s := j.Stats(t.Context()); s.Bytes > mib {
		t.Errorf("%+v", s)
	}
}

func TestAgeIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := open(t, dir, journal.Config{Retention: journal.Retention{Age: time.Hour}, CacheBytes: 1})
		for n := 1; n <= 30; n++ {
			fill(t, j, n, n)
			<-time.After(10 * time.Minute) // virtual
		}
		if first := j.First(); first != 1 {
			t.Fatalf("small appends were trimmed up to %d before anyone asked", first)
		}
		if err := j.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := j.Stats(t.Context())
		if age := time.Since(s.Oldest); age > time.Hour || age < 50*time.Minute || s.Last != 31 {
			t.Fatalf("the oldest batch is %v old: %+v", age, s)
		}
		j.Retain("slow", event.NewOffset(s.First, 0))
		<-time.After(24 * time.Hour)
		if err := j.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if first := j.First(); first != s.First {
			t.Fatalf("trimmed up to %d, an active reader needs what is after %d", first, s.First)
		}
		j.Release("slow")
		if err := j.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := j.Stats(t.Context()); s.First != 31 || s.Last != 31 {
			t.Fatalf("the last batch stays: %+v", s)
		}
		fill(t, j, 31, 31)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// lines is a writer of log lines that may be read meanwhile.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestAppendWaitsForAnActiveReader: the bound is kept, and what the reader needs is kept too.
func TestAppendWaitsForAnActiveReader(t *testing.T) {
	var said lines
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo}))
	j, err := journal.Open(t.Context(), segmentLog(t, t.TempDir()), journal.Known, journal.Config{Retention: journal.Retention{Size: mib}}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	j.Retain("fast", event.NewOffset(1<<30, 0))
	j.Retain("orders → search", event.NewOffset(3, 0))
	const last = 200
	done := make(chan error, 1)
	go func() {
		for n := 1; n <= last; n++ {
			if _, err := j.Append(t.Context(), big(n)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	blocked := func() {
		t.Helper()
		devstack.Eventually(t, 20*time.Second, func() error {
			if s := j.Stats(t.Context()); s.Blocked != "orders → search" {
				return errors.New("not blocked yet")
			}
			return nil
		})
	}
	blocked()
	s := j.Stats(t.Context())
	if s.First != 3 || s.Bytes > mib || s.Bytes < mib-64<<10 {
		t.Errorf("while it waits: %+v", s)
	}
	if got := said.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, `reader="orders → search"`) || !strings.Contains(got, "hint=") {
		t.Errorf("said:\n%s", got)
	}
	j.Retain("orders → search", event.NewOffset(20, 0))
	devstack.Eventually(t, 20*time.Second, func() error {
		if now := j.Stats(t.Context()); now.Last <= s.Last || now.First != 20 {
			return errors.New("not moved on yet")
		}
		return nil
	})
	blocked()
	for sequence := uint64(20); sequence <= j.Head().Offset.Sequence(); sequence++ {
		if _, err := j.Read(t.Context(), sequence); err != nil {
			t.Fatalf("what the reader needs: %v", err)
		}
	}
	j.Release("orders → search")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := j.Stats(t.Context()); s.Blocked != "" || s.Bytes > mib || s.Last != last+1 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestFullJournalGivesUpWithItsContext(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{Retention: journal.Retention{Size: mib}})
	j.Retain("slow", event.NewOffset(2, 0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	n := 0
	go func() {
		var err error
		for err == nil {
			n++
			_, err = j.Append(ctx, big(n))
		}
		done <- err
	}()
	devstack.Eventually(t, 20*time.Second, func() error {
		if j.Stats(t.Context()).Blocked == "" {
			return errors.New("not blocked yet")
		}
		return nil
	})
	cancel()
	err := <-done
	if !errors.Is(err, journal.ErrFull) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "slow still needs batch 2") {
		t.Fatalf("append: %v", err)
	}
	if _, err := j.Append(ctx, big(n)); !errors.Is(err, context.Canceled) {
		t.Fatalf("append with an ended context: %v", err)
	}
	j.Release("slow")
	grow(t, j, n, n+1) // nothing was written, so the journal goes on
}

// TestReaderThatIsTrimmedAway is told so, whenever it comes.
func TestReaderThatIsTrimmedAway(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{Retention: journal.Retention{Size: mib}, CacheBytes: 1})
	grow(t, j, 1, 3)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var after event.Offset
			for {
				b, err := j.Next(t.Context(), after)
				if errors.Is(err, journal.ErrTrimmed) {
					after = event.NewOffset(j.First(), 0) - 1
					continue
				}
				if err != nil {
					t.Errorf("next after %s: %v", after, err)
					return
				}
				after = b.Last()
				if len(b.Parts) > 0 && b.Parts[0].XID == 400 {
					return
				}
			}
		})
	}
	grow(t, j, 4, 400)
	wg.Wait()
}
