package cdc

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// What callers branch on. A Reader does not retry after any of them.
var (
	// ErrSlotMissing: the slot does not exist (never created, dropped, or lost in a failover).
	ErrSlotMissing = errors.New("replication slot does not exist")
	// ErrSlotAhead: the slot has moved past what is durable here; what lies between can never be read from it.
	ErrSlotAhead = errors.New("replication slot is ahead of the journal")
	// ErrSlotLost: the server removed WAL that the slot still needed (max_slot_wal_keep_size).
	ErrSlotLost = errors.New("replication slot lost WAL that it needs")
	// ErrSlotUnusable: the slot is of another kind, plugin or database.
	ErrSlotUnusable = errors.New("replication slot is not usable")
	// ErrSlotBusy: another connection held the slot for longer than Config.SlotTimeout.
	ErrSlotBusy = errors.New("replication slot is in use")
	// ErrSourceChanged: the server that answers is not the one that the stream began with, or the database or its history
	// is another one.
	ErrSourceChanged = errors.New("source is another one")
	// ErrPublicationChanged: the publication was dropped, and perhaps created again. What was committed in between may never be sent.
	ErrPublicationChanged = errors.New("publication is not the one that the stream began with")
	// ErrPromoted: the server goes on with the stream's history under a new timeline, as after a failover. A stream that begins
	// anew, with what is durable, loses nothing.
	ErrPromoted = errors.New("source goes on under a new timeline")
	// ErrStandby: the server is in recovery. It passes: a Reader tries again.
	ErrStandby = errors.New("source is a standby")
	// ErrProtocol: the server sent what the reader does not understand.
	ErrProtocol = errors.New("unexpected replication message")
)

// fatal marks an error that trying again cannot cure.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// Retryable says whether an error of the source may pass by itself: the network, a server that restarts, a connection
// that was ended. An error that is not the source's at all counts as one that may.
func Retryable(err error) bool { return retryable(err) }

// retryable says whether connecting again may cure err. Network errors, restarts and exhausted resources are
// cured by time; refusals are not.
func retryable(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	for _, permanent := range []error{
		ErrSlotMissing, ErrSlotAhead, ErrSlotLost, ErrSlotUnusable, ErrSlotBusy, ErrSourceChanged, ErrPublicationChanged, ErrPromoted, ErrProtocol,
	} {
		if errors.Is(err, permanent) {
			return false
		}
	}
	if f := (fatal{}); errors.As(err, &f) {
		return false
	}
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return true // the network, a closed connection, a timeout
	}
	switch refusal.Code[:min(2, len(refusal.Code))] {
	case "08", "40", "53", "57", "58": // connection, rollback, resources, shutdown or cancel, I/O
		return true
	case "55": // object in use: somebody else holds the slot
		return refusal.Code == "55006"
	case "XX": // a crash of a server process seen from another
		return true
	}
	return false
}
