package journal_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAwait(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	fill(t, j, 1, 1)
	at := j.Head().Position
	there, _ := j.Await(at)
	next, _ := j.Await(at + 1)
	far, _ := j.Await(at + 1<<20)
	never, forget := j.Await(at + 1)
	forget()
	if !isClosed(there) || isClosed(next) || isClosed(far) {
		t.Error("what is reached at once is wrong")
	}
	fill(t, j, 2, 2)
	if !isClosed(next) || isClosed(far) || isClosed(never) {
		t.Error("what is reached by an append is wrong")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	late, _ := j.Await(1 << 30)
	if !isClosed(far) || !isClosed(late) {
		t.Error("closing the journal wakes nobody")
	}
}

func TestPressed(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{Retention: journal.Retention{Size: 1 << 20}})
	pressed, other := j.Pressed("slow"), j.Pressed("other")
	j.Retain("slow", 0)
	large := journal.Transaction(1, 1)
	large.Events[0].After = journal.Text(string(make([]byte, 600<<10)))
	if _, err := j.Append(t.Context(), []journal.Part{large}); err != nil {
		t.Fatal(err)
	}
	if isClosed(pressed) {
		t.Error("nobody waits yet")
	}
	large = journal.Transaction(2, 1)
	large.Events[0].After = journal.Text(string(make([]byte, 600<<10)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := j.Append(ctx, []journal.Part{large})
		done <- err
	}()
	<-pressed
	if !isClosed(j.Pressed("slow")) || isClosed(other) {
		t.Error("who is waited for is wrong")
	}
	cancel()
	if err := <-done; !errors.Is(err, journal.ErrFull) {
		t.Errorf("append: %v", err)
	}
	if isClosed(j.Pressed("slow")) {
		t.Error("nobody waits any more")
	}
	j.Retain("slow", event.NewOffset(2, 0))
	if _, err := j.Append(t.Context(), []journal.Part{large}); err != nil {
		t.Errorf("append: %v", err)
	}
}
