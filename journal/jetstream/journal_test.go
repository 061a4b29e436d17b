package jetstream

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// none has no table definitions: the events are messages.
type none struct{}

// Schema implements journal.Schemas.
func (none) Schema(uint32) (*row.Schema, bool) { return nil, false }

// message is the n-th transaction, with one logical message.
func message(n int) []journal.Part {
	return []journal.Part{{
		Transaction: event.Transaction{XID: uint32(n), CommitLSN: pglogrepl.LSN(n * 100), EndLSN: pglogrepl.LSN(n*100 + 50), CommitTime: time.Unix(int64(n), 0)},
		Complete:    true,
		Events:      []event.Event{{Op: event.Message, Prefix: "test", Content: fmt.Appendf(nil, "message %d", n)}},
	}}
}

// openJournal opens the journal in the stream "J".
func openJournal(t *testing.T, server *natstest.Server, cfg journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), openAt(t, server), none{}, cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestJournalInAStream(t *testing.T) {
	server := natstest.Start(t, 0)
	j := openJournal(t, server, journal.Config{MinSequence: 7000})
	for n := 1; n <= 50; n++ {
		if _, err := j.Append(t.Context(), message(n)); err != nil {
			t.Fatal(err)
		}
	}
	head, identity := j.Head(), j.Identity()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Restart()
	j = openJournal(t, server, journal.Config{})
	if j.Head() != head || j.Identity() != identity || j.First() != 7000 {
		t.Fatalf("head %+v of %s after a restart, want %+v of %s", j.Head(), j.Identity(), head, identity)
	}
	after, err := j.SeekLSN(t.Context(), 2000)
	if err != nil {
		t.Fatal(err)
	}
	for n := 20; n <= 50; n++ {
		b, err := j.Next(t.Context(), after)
		if err != nil || string(b.Parts[0].Events[0].Content) != fmt.Sprintf("message %d", n) {
			t.Fatalf("after %s comes %+v, %v", after, b, err)
		}
		after = b.Last()
	}
}

// TestDeletedMessagesAreAHole: someone removed messages from the stream by hand.
func TestDeletedMessagesAreAHole(t *testing.T) {
	server := natstest.Start(t, 0)
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "J", Subjects: []string{"J.batches"}, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, server, journal.Config{})
	for n := 1; n <= 20; n++ {
		if _, err := j.Append(t.Context(), message(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, sequence := range []uint64{8, 9, 10} {
		if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
	again := openJournal(t, server, journal.Config{})
	var corrupt *journal.CorruptError
	after := event.Offset(0)
	for head := again.Head().Offset; err == nil && after < head; {
		var b *journal.Batch
		if b, err = again.Next(t.Context(), after); err == nil {
			after = b.Last()
		}
	}
	if !errors.As(err, &corrupt) || corrupt.From != 8 || corrupt.To != 10 || after.Sequence() != 7 {
		t.Fatalf("after %s: %v", after, err)
	}
}

// TestJournalFencesTheWriterBefore: the new writer goes on, the old one learns of it with its next append.
func TestJournalFencesTheWriterBefore(t *testing.T) {
	server := natstest.Start(t, 0)
	old := openJournal(t, server, journal.Config{})
	if _, err := old.Append(t.Context(), message(1)); err != nil {
		t.Fatal(err)
	}
	current := openJournal(t, server, journal.Config{})
	if _, err := current.Append(t.Context(), message(2)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := old.Append(t.Context(), message(2)); !errors.Is(err, journal.ErrFenced) {
			t.Fatalf("append of the old writer: %v", err)
		}
	}
	if _, err := current.Append(t.Context(), message(3)); err != nil {
		t.Fatal(err)
	}
}
