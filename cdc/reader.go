package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/row"
)

// Reader follows a replication slot. Run is called once; the other methods may be called from any goroutine,
// before and while it runs.
type Reader struct {
	cfg      Config
	schemas  SchemaRegistrar
	log      *slog.Logger
	feedback *feedback

	connected  atomic.Bool
	received   atomic.Uint64
	walEnd     atomic.Uint64
	reconnects atomic.Uint64
	keepalive  atomic.Pointer[Keepalive]

	// The rest belongs to the goroutine of Run.
	assembler  *assembler
	registered map[uint32]*row.Schema // by table, what the registrar gave last
	source     Source                 // that the stream belongs to; the first that answered unless Expect said it
}

// Stats is what a Reader knows about itself.
type Stats struct {
	Connected    bool
	Received     pglogrepl.LSN // the highest position received: of a message or named by a keepalive
	WALEnd       pglogrepl.LSN // the server's position as last named by it: how far it had read its log
	Acknowledged pglogrepl.LSN // the highest position passed to Acknowledge
	LagBytes     uint64        // WALEnd minus Acknowledged. Slot.Lag counts what the server has not read, too
	Reconnects   uint64        // how many times a connection was replaced
	Keepalive    Keepalive     // the last one received; zero before the first
}

// Keepalive is a position that the server has named as the end of its log, and when that was received.
type Keepalive struct {
	WALEnd pglogrepl.LSN
	Time   time.Time
}

// NewReader makes a Reader; it does no I/O.
func NewReader(cfg Config, schemas SchemaRegistrar, log *slog.Logger) (*Reader, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if schemas == nil || log == nil {
		return nil, errors.New("cdc reader: no schema registrar or no log")
	}
	return &Reader{cfg: cfg, schemas: schemas, log: log, feedback: newFeedback(), registered: map[uint32]*row.Schema{}}, nil
}

// Expect says which source the stream belongs to, before Run. Another one that answers later is refused. Without it the first
// that answers is the one.
func (r *Reader) Expect(s Source) { r.source = s }

// Acknowledge tells the server that everything committed before lsn is durable here, so that it never has to
// be sent again: the EndLSN of a transaction, or the WALEnd of a Delivery when nothing delivered before it is
// still to be made durable. The position itself must be durable too (see Start). It is reported soon after,
// from a goroutine of its own; lower positions than before are ignored.
func (r *Reader) Acknowledge(lsn pglogrepl.LSN) { r.feedback.acknowledge(lsn) }

// RequestKeepalive asks the server where its log ends now; the answer is the WALEnd of a Delivery soon after.
// Requests made while an answer is awaited become one more request after that answer was delivered.
func (r *Reader) RequestKeepalive() { r.feedback.request() }

// RequestPosition asks the server, as often as it takes, where its log ends, until everything committed before
// lsn was delivered. An answer may come too early: when the server has not read its own log that far. It gives up
// a minute after the last call, so a position that will never exist costs little.
func (r *Reader) RequestPosition(lsn pglogrepl.LSN) { r.feedback.requestUntil(lsn) }

// Stats returns the reader's counters.
func (r *Reader) Stats() Stats {
	s := Stats{
		Connected:    r.connected.Load(),
		Received:     pglogrepl.LSN(r.received.Load()),
		WALEnd:       pglogrepl.LSN(r.walEnd.Load()),
		Acknowledged: pglogrepl.LSN(r.feedback.acknowledged.Load()),
		Reconnects:   r.reconnects.Load(),
	}
	if k := r.keepalive.Load(); k != nil {
		s.Keepalive = *k
	}
	if s.WALEnd > s.Acknowledged {
		s.LagBytes = uint64(s.WALEnd - s.Acknowledged)
	}
	return s
}

// Run follows the slot from a Start until ctx is done, whose cause it then returns, or until an error that
// connecting again cannot cure: one of deliver's or of the SchemaRegistrar's, or a refusal (see the Err
// variables). Lost connections are replaced with growing, random waits, without a gap or a repetition.
//
// deliver is called from one goroutine, one call at a time; receiving goes on meanwhile, within bounds. The
// context it gets is ctx: a lost connection does not end a delivery.
func (r *Reader) Run(ctx context.Context, from Start, deliver func(context.Context, *Delivery) error) error {
	r.assembler = &assembler{
		maxBytes:   r.cfg.BatchBytes,
		maxChanges: r.cfg.BatchChanges,
		position:   from,
		reached:    from.EndLSN,
		deliver: func(ctx context.Context, d *Delivery) error {
			if err := deliver(ctx, d); err != nil {
				return fatal{fmt.Errorf("deliver: %w", err)}
			}
			return nil
		},
	}
	r.feedback.acknowledge(from.EndLSN)
	r.feedback.delivered(from.EndLSN)
	lost := backoff.New(backoff.Config{Min: r.cfg.ReconnectDelayMin, Max: r.cfg.ReconnectDelayMax})
	busy := backoff.New(backoff.Config{Min: busyDelayMin, Max: busyDelayMax})
	var busySince time.Time
	for {
		began, before := time.Now(), r.assembler.position
		err := r.follow(ctx)
		r.connected.Store(false)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !retryable(err) {
			return fmt.Errorf("follow slot %s: %w", r.cfg.Slot, err)
		}
		if isBusy(err) {
			if busySince.IsZero() {
				busySince = time.Now()
			} else if time.Since(busySince) > r.cfg.SlotTimeout {
				return fmt.Errorf("slot %s: %w for longer than %s: %w", r.cfg.Slot, ErrSlotBusy, r.cfg.SlotTimeout, err)
			}
			r.log.Warn("slot in use, waiting", "slot", r.cfg.Slot, "error", err)
			if err := busy.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		busySince = time.Time{}
		busy.Reset()
		if r.assembler.position != before || time.Since(began) > r.cfg.ReconnectDelayMax {
			lost.Reset()
		}
		r.log.Warn("replication connection lost", "slot", r.cfg.Slot, "error", err, "attempt", lost.Attempts()+1)
		r.reconnects.Add(1)
		if err := lost.Wait(ctx); err != nil {
			return err
		}
	}
}

// While another connection holds the slot, asking is cheap, and a crashed predecessor may let go any moment.
const (
	busyDelayMin = 50 * time.Millisecond
	busyDelayMax = time.Second
)

// isBusy says whether err is the server's word that another connection holds the slot.
func isBusy(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && refusal.Code == "55006"
}
