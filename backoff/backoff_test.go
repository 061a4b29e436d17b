package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitsGrowToTheirBound(t *testing.T) {
	b := New(Config{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond})
	for i, bound := range []time.Duration{10, 20, 40, 80, 100, 100, 100} {
		bound *= time.Millisecond
		if got := b.bound(); got != bound {
			t.Errorf("bound of wait %d is %s, want %s", i, got, bound)
		}
		if got := b.Next(); got < bound/10 || got > bound {
			t.Errorf("wait %d is %s, want between %s and %s", i, got, bound/10, bound)
		}
	}
	if b.Attempts() != 7 {
		t.Errorf("%d attempts, want 7", b.Attempts())
	}
	b.Reset()
	if got := b.bound(); got != 10*time.Millisecond {
		t.Errorf("bound after Reset is %s", got)
	}
}

func TestDefaultsAndExtremes(t *testing.T) {
	var zero Backoff
	if got := zero.bound(); got != DefaultMin {
		t.Errorf("first bound is %s, want %s", got, DefaultMin)
	}
	zero.attempts = 1 << 20
	if got := zero.bound(); got != DefaultMax {
		t.Errorf("last bound is %s, want %s", got, DefaultMax)
	}
	inverted := New(Config{Min: time.Hour, Max: time.Second})
	if got := inverted.bound(); got != time.Hour {
		t.Errorf("bound with Max below Min is %s", got)
	}
	huge := New(Config{Min: time.Hour, Max: 1<<63 - 1})
	for range 100 {
		if got := huge.Next(); got <= 0 {
			t.Fatalf("wait of %s after %d attempts", got, huge.Attempts())
		}
	}
	tiny := New(Config{Min: 1, Max: 1})
	if got := tiny.Next(); got < 0 || got > 1 {
		t.Errorf("wait of %s, want at most 1ns", got)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Min: time.Hour, Max: time.Hour})
		began := time.Now()
		if err := b.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 6*time.Minute || took > time.Hour {
			t.Errorf("waited %s", took)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("stopping")
		cancel(cause)
		if err := b.Wait(ctx); !errors.Is(err, cause) {
			t.Errorf("Wait: %v", err)
		}
	})
}
