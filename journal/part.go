package journal

import (
	"encoding/binary"

	"github.com/lanternist/lanternist/event"
)

// The format of what follows the header. Numbers are varints, signed ones where it says so (±).
//
//	entry  = header { part }
//	part   = flags XID CommitLSN EndLSN ±commit time, first ordinal, events { event }
//	event  = op flags schema ordinal [ before ] [ after ] [ prefix content ]
//
//	flags of a part:   1 complete
//	CommitLSN          minus the CommitLSN of the part before; in the first part, of the header's first
//	EndLSN             minus CommitLSN; 0 when it is not known yet
//	commit time        minus that of the part before; in the first part, the header's lowest
//	flags of an event: 1 has before, 2 before is complete, 4 has after, 8 has prefix and content
//	schema             ID of the rows' definition, 0 when there are no rows to describe
//	ordinal            minus the ordinal that was to be expected: the part's first, then one more each time
//	before, after      length and that many bytes of a row (package row)
//	prefix, content    length and that many bytes
//
// op and flags are single bytes.
const (
	partComplete = 1 << 0

	eventBefore         = 1 << 0
	eventBeforeComplete = 1 << 1
	eventAfter          = 1 << 2
	eventMessage        = 1 << 3

	minPart  = 7 // bytes of the smallest part
	minEvent = 4 // bytes of the smallest event
)

// EncodedSize is a bound on the size of the batch that the parts become, in bytes: never less than the size
// and little more.
func EncodedSize(parts []Part) int {
	size := headerSize
	for i := range parts {
		size += partBound
		for j := range parts[i].Events {
			size += EncodedEventSize(&parts[i].Events[j])
		}
	}
	return size
}

// partBound is the most that a part takes without its events: flags, three numbers of 32 bits and three of 64.
const partBound = 1 + 3*binary.MaxVarintLen32 + 3*binary.MaxVarintLen64

// EncodedEventSize is a bound on the size of one event in a batch, in bytes.
func EncodedEventSize(e *event.Event) int {
	const bound = 2 + 2*binary.MaxVarintLen32 + 4*binary.MaxVarintLen32
	return bound + len(e.Before) + len(e.After) + len(e.Prefix) + len(e.Content)
}

// appendParts appends the encoded parts to dst. It does not allocate when dst has room.
func appendParts(dst []byte, h *header, parts []Part) []byte {
	lsn, commit := h.firstCommitLSN, h.lowestCommit
	for i := range parts {
		p := &parts[i]
		var flags byte
		if p.Complete {
			flags |= partComplete
		}
		var end uint64
		if p.EndLSN != 0 {
			end = uint64(p.EndLSN - p.CommitLSN)
		}
		at := p.CommitTime.UnixMicro()
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, uint64(p.XID))
		dst = binary.AppendUvarint(dst, uint64(p.CommitLSN-lsn))
		dst = binary.AppendUvarint(dst, end)
		dst = binary.AppendVarint(dst, at-commit)
		dst = binary.AppendUvarint(dst, uint64(p.First))
		dst = binary.AppendUvarint(dst, uint64(len(p.Events)))
		lsn, commit = p.CommitLSN, at
		expected := p.First
		for j := range p.Events {
			dst = appendEvent(dst, &p.Events[j], expected)
			expected = p.Events[j].Ordinal + 1
		}
	}
	return dst
}

// appendEvent appends one encoded event.
func appendEvent(dst []byte, e *event.Event, expected uint32) []byte {
	var flags byte
	var schema uint32
	if e.Before != nil {
		flags |= eventBefore
	}
	if e.BeforeComplete {
		flags |= eventBeforeComplete
	}
	if e.After != nil {
		flags |= eventAfter
	}
	message := e.Op == event.Message || e.Op == event.Gap
	if message {
		flags |= eventMessage
	}
	if e.Schema != nil {
		schema = e.Schema.ID
	}
	dst = append(dst, byte(e.Op), flags)
	dst = binary.AppendUvarint(dst, uint64(schema))
	dst = binary.AppendUvarint(dst, uint64(e.Ordinal-expected))
	if e.Before != nil {
		dst = binary.AppendUvarint(dst, uint64(len(e.Before)))
		dst = append(dst, e.Before...)
	}
	if e.After != nil {
		dst = binary.AppendUvarint(dst, uint64(len(e.After)))
		dst = append(dst, e.After...)
	}
	if message {
		dst = binary.AppendUvarint(dst, uint64(len(e.Prefix)))
		dst = append(dst, e.Prefix...)
		dst = binary.AppendUvarint(dst, uint64(len(e.Content)))
		dst = append(dst, e.Content...)
	}
	return dst
}
