package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/internal/natsconn/natstest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The embedded nats-server keeps these for the life of a process.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"))
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestConformance(t *testing.T) {
	for name, maxPayload := range map[string]int32{"default max_payload": 0, "8 MiB max_payload": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t, maxPayload)
			journaltest.Run(t, func(t *testing.T, home string) (journal.Log, error) {
				hash := fnv.New64a()
				hash.Write([]byte(home))
				log, err := Open(t.Context(), server.URL(), Config{Stream: fmt.Sprintf("J%x", hash.Sum64())}, discard())
				if err != nil {
					return nil, err
				}
				return log, nil
			})
		})
	}
}

// TestSecondWriterOnAnEmptyStream: both saw an empty stream; one may begin it.
func TestSecondWriterOnAnEmptyStream(t *testing.T) {
	server := natstest.Start(t, 0)
	first, second := openAt(t, server), openAt(t, server)
	if err := first.Append(t.Context(), 1, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := second.Append(t.Context(), 1, []byte("second")); !errors.Is(err, journal.ErrFenced) {
		t.Fatalf("append of the second writer: %v", err)
	}
	if got, err := first.Read(t.Context(), 1); err != nil || string(got) != "first" {
		t.Fatalf("entry 1 is %q, %v", got, err)
	}
}

// TestAppendWaitsForTheServer: an append begun while the server is away is stored once it is back, once.
func TestAppendWaitsForTheServer(t *testing.T) {
	server := natstest.Start(t, 0)
	log := openAt(t, server)
	if err := log.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	done := make(chan error, 1)
	go func() { done <- log.Append(t.Context(), 2, []byte("two")) }()
	server.Restart()
	if err := <-done; err != nil {
		t.Fatalf("append: %v", err)
	}
	first, last, err := log.Bounds(t.Context())
	if err != nil || first != 1 || last != 2 {
		t.Fatalf("bounds are %d-%d, %v", first, last, err)
	}
	if got, err := log.Read(t.Context(), 2); err != nil || string(got) != "two" {
		t.Fatalf("entry 2 is %q, %v", got, err)
	}
}

// TestAppendGivesUpWithItsContext: its outcome is unknown then, and the log must be opened again.
func TestAppendGivesUpWithItsContext(t *testing.T) {
	server := natstest.Start(t, 0)
	log := openAt(t, server)
	if err := log.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := log.Append(ctx, 2, []byte("two")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append: %v", err)
	}
	server.Restart()
	if err := log.Append(t.Context(), 2, []byte("two")); !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("append after an unknown outcome: %v", err)
	}
	again := openAt(t, server)
	if err := again.Append(t.Context(), 2, []byte("two")); err != nil {
		t.Fatalf("append after reopening: %v", err)
	}
}

// TestLostAcknowledgement: the entry was stored, but the writer never heard of it.
func TestLostAcknowledgement(t *testing.T) {
	server := natstest.Start(t, 0)
	log := openAt(t, server)
	if err := log.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := log.publish(t.Context(), 2, &nats.Msg{Subject: log.subject, Data: []byte("two")}); err != nil {
		t.Fatal(err)
	}
	if err := log.Append(t.Context(), 2, []byte("two")); err != nil {
		t.Fatalf("append of what is stored already: %v", err)
	}
	if err := log.Append(t.Context(), 3, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if got, err := log.Read(t.Context(), 2); err != nil || !bytes.Equal(got, []byte("two")) {
		t.Fatalf("entry 2 is %q, %v", got, err)
	}
}

func TestPurgedStreamCannotBeginAgainLower(t *testing.T) {
	server := natstest.Start(t, 0)
	log := openAt(t, server)
	for sequence := uint64(1); sequence <= 5; sequence++ {
		if err := log.Append(t.Context(), sequence, []byte("entry")); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, server)
	if err := again.Append(t.Context(), 1, []byte("entry")); !errors.Is(err, journal.ErrBehind) {
		t.Fatalf("append below what the stream has held: %v", err)
	}
	if err := again.Append(t.Context(), 6, []byte("entry")); err != nil {
		t.Fatal(err)
	}
}

func TestRefusesStreamsThatDropEntries(t *testing.T) {
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
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "BAD", Subjects: []string{"BAD.batches", "more"}, MaxAge: time.Hour, MaxMsgs: 10, Storage: jetstream.MemoryStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), server.URL(), Config{Stream: "BAD"}, discard())
	if err == nil {
		t.Fatal("the stream was taken")
	}
	for _, want := range []string{"subjects", "max_age 1h0m0s", "discard", "storage is Memory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell of %q", err, want)
		}
	}
}

func TestNoServer(t *testing.T) {
	if _, err := Open(t.Context(), "nats://127.0.0.1:1", Config{}, discard()); err == nil || !strings.Contains(err.Error(), "is the server running") {
		t.Fatalf("open without a server: %v", err)
	}
}

// openAt opens the stream "J" and closes it when the test ends.
func openAt(t *testing.T, server *natstest.Server) *Log {
	t.Helper()
	log, err := Open(t.Context(), server.URL(), Config{Stream: "J"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}
