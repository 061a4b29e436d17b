package cdc

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// status is a standby status message as the server reads it.
type status struct {
	write, flush, apply uint64
	reply               bool
}

// feedbackTo runs a feedback against a server in memory, and returns what the server receives.
func feedbackTo(t *testing.T, f *feedback, interval time.Duration) <-chan status {
	t.Helper()
	ours, servers := net.Pipe()
	config, err := pgconn.ParseConfig("postgres://u@localhost/d?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	hijacked := &pgconn.HijackedConn{Conn: ours, Config: config}
	hijacked.Frontend = config.BuildFrontend(ours, ours)
	conn, err := pgconn.Construct(hijacked)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan status, 100)
	go func() {
		for {
			b := make([]byte, 1+4+34)
			if _, err := io.ReadFull(servers, b); err != nil {
				close(received)
				return
			}
			received <- status{binary.BigEndian.Uint64(b[6:]), binary.BigEndian.Uint64(b[14:]), binary.BigEndian.Uint64(b[22:]), b[38] == 1}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.run(ctx, conn, interval, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		ours.Close()
		servers.Close()
	})
	return received
}

// expectStatus lets everything that can happen without time passing happen, then compares what was sent.
func expectStatus(t *testing.T, received <-chan status, want ...status) {
	t.Helper()
	synctest.Wait()
	var got []status
	for len(received) > 0 {
		got = append(got, <-received)
	}
	if len(got) != len(want) {
		t.Fatalf("the server got %+v, want %+v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("the server got %+v, want %+v", got, want)
		}
	}
}

func TestFeedbackReportsOnlyWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeedback()
		received := feedbackTo(t, f, 10*time.Second)
		expectStatus(t, received, status{}) // all three are zero: nothing is claimed
		time.Sleep(time.Second)
		f.acknowledge(100)
		expectStatus(t, received, status{100, 100, 100, false}) // at once when it was quiet
		f.acknowledge(200)
		f.acknowledge(300)
		f.acknowledge(250)
		expectStatus(t, received) // soon, together
		time.Sleep(acknowledgeGap)
		expectStatus(t, received, status{300, 300, 300, false})
		time.Sleep(time.Second)
		expectStatus(t, received) // nothing new
	})
}

func TestFeedbackIsHeardInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeedback()
		received := feedbackTo(t, f, 10*time.Second)
		f.acknowledge(7)
		expectStatus(t, received, status{7, 7, 7, false})
		f.heard.Store(true)
		time.Sleep(10 * time.Second)
		expectStatus(t, received, status{7, 7, 7, false})
		time.Sleep(10 * time.Second)
		expectStatus(t, received, status{7, 7, 7, true}) // nothing was heard since: is the server there?
		f.status()
		expectStatus(t, received, status{7, 7, 7, false}) // the server asked
	})
}

func TestFeedbackAsksForOneKeepaliveAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeedback()
		received := feedbackTo(t, f, time.Hour)
		expectStatus(t, received, status{})
		f.request()
		expectStatus(t, received, status{reply: true})
		for range 100 {
			f.request()
		}
		expectStatus(t, received) // the answer is awaited
		f.answered()
		expectStatus(t, received, status{reply: true}) // once for all of them
		f.answered()
		expectStatus(t, received)
	})
}

func TestFeedbackAsksUntilAPositionIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeedback()
		received := feedbackTo(t, f, time.Hour)
		expectStatus(t, received, status{})
		f.requestUntil(100)
		expectStatus(t, received, status{reply: true})
		f.delivered(90)
		f.answered() // too early
		expectStatus(t, received)
		time.Sleep(askDelayMin)
		expectStatus(t, received, status{reply: true})
		f.delivered(100)
		f.answered()
		time.Sleep(time.Minute)
		expectStatus(t, received)
		f.requestUntil(100) // reached already
		expectStatus(t, received)

		f.requestUntil(1 << 60) // will never be
		asked := 0
		for range 60_000 {
			synctest.Wait()
			for len(received) > 0 {
				<-received
				asked++
				f.answered()
			}
			time.Sleep(askDelayMax / 10)
		}
		if limit := int(targetPatience/askDelayMax) + 20; asked == 0 || asked > limit {
			t.Errorf("asked %d times, want at most %d", asked, limit)
		}
		expectStatus(t, received)
	})
}

// What was asked for on a connection that is gone is asked for again on the next.
func TestFeedbackAsksAgainOnANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeedback()
		f.outstanding.Store(true)
		received := feedbackTo(t, f, time.Hour)
		expectStatus(t, received, status{reply: true})
	})
}
