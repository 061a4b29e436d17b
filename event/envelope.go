package event

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/lanternist/lanternist/row"
)

// AppendID appends the event's id: the source's system identifier, the LSN of the transaction's commit record
// and the ordinal in it, "66053d1c2b7a0001-0000000016b37480-0". It is the same on every re-delivery, in every
// journal, and names the event for ever.
func (e *Event) AppendID(dst []byte, source Source) []byte {
	dst = source.appendSystem(dst)
	dst = append(dst, '-')
	dst = appendHex(dst, uint64(e.Transaction.CommitLSN), 16)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, uint64(e.Ordinal), 10)
}

// AppendSubject appends what the event is about: "public.orders/42", with the parts of a composite key joined
// by commas and percent-escaped; "public.orders" when it is about the whole table or the row's key is not
// known; the prefix of a message; "lanternist.gap" of a gap.
func (e *Event) AppendSubject(dst []byte) []byte {
	if e.Schema == nil {
		return append(dst, e.Prefix...)
	}
	dst = append(dst, e.Schema.Namespace...)
	dst = append(dst, '.')
	dst = append(dst, e.Schema.Name...)
	r, ok := e.keyed()
	if !ok {
		return dst
	}
	for i, column := range e.Schema.Key {
		dst = append(dst, "/,"[min(i, 1)])
		dst = appendEscaped(dst, r.Column(column).Text)
	}
	return dst
}

// appendEscaped appends part of a key with its bytes percent-escaped but for letters, digits, and "-._~:@".
func appendEscaped(dst, text []byte) []byte {
	for _, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == ':', c == '@':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&0xf])
		}
	}
	return dst
}

// keyed is the row whose key the event has: After, or Before for a delete.
func (e *Event) keyed() (row.Row, bool) {
	r := e.After
	if r == nil {
		r = e.Before
	}
	if r == nil || e.Schema == nil || len(e.Schema.Key) == 0 {
		return nil, false
	}
	for _, column := range e.Schema.Key {
		if !r.Column(column).IsText() {
			return nil, false
		}
	}
	return r, true
}

// AppendEnvelope appends the event as consumers see it: one line of JSON with the members
//
//	event_id        the same on every re-delivery; see AppendID
//	event_type      "orders.updated"
//	event_version   of the table's definition; 1 for a message
//	timestamp       when the transaction committed, ISO 8601 in UTC, microseconds
//	source          the database; see Source
//	subject         "public.orders/42"; see AppendSubject
//	key             the primary key's columns and values; null when there is none
//	data            of a row: see below; of a message: {"prefix", "content"}, or {"prefix", "content_base64"} when
//	                the content is not UTF-8; of a gap: see GapInfo
//	metadata        null: what the transaction said of itself
//	correlation_id  null
//	causation_id    null
//	offset          place in the journal, a decimal string: it does not fit a JSON number everywhere
//	transaction     {"xid", "lsn", "index"}
//
// data of a row's event has the members "before", "after", "before_complete" and "changed". A row's columns are
// members by name. A column that was not sent, because it is TOASTed, did not change, and its table was not
// loaded yet, is left out: it is not null. A "before" of which only the replica identity is known has those
// columns only, and "before_complete" is false. "changed" lists the columns that an update changed; it is null
// when that is not known, and in all other events.
func AppendEnvelope(dst []byte, e *Event, source Source) []byte {
	var scratch [256]byte
	dst = append(dst, `{"event_id":`...)
	dst = row.AppendJSONString(dst, e.AppendID(scratch[:0], source))
	dst = append(dst, `,"event_type":`...)
	dst = row.AppendJSONString(dst, AppendType(scratch[:0], e.Op, e.Schema))
	dst = append(dst, `,"event_version":`...)
	dst = strconv.AppendInt(dst, int64(e.version()), 10)
	dst = append(dst, `,"timestamp":"`...)
	dst = e.Transaction.CommitTime.UTC().AppendFormat(dst, timestampLayout)
	dst = append(dst, `","source":`...)
	dst = row.AppendJSONString(dst, source.append(scratch[:0]))
	dst = append(dst, `,"subject":`...)
	dst = row.AppendJSONString(dst, e.AppendSubject(scratch[:0]))
	dst = append(dst, `,"key":`...)
	dst = e.appendKey(dst)
	dst = append(dst, `,"data":`...)
	dst = e.appendData(dst)
	dst = append(dst, `,"metadata":null,"correlation_id":null,"causation_id":null,"offset":"`...)
	dst = strconv.AppendUint(dst, uint64(e.Offset), 10)
	dst = append(dst, `","transaction":{"xid":`...)
	dst = strconv.AppendUint(dst, uint64(e.Transaction.XID), 10)
	dst = append(dst, `,"lsn":"`...)
	dst = append(dst, e.Transaction.CommitLSN.String()...)
	dst = append(dst, `","index":`...)
	dst = strconv.AppendUint(dst, uint64(e.Ordinal), 10)
	return append(dst, "}}"...)
}

const timestampLayout = "2006-01-02T15:04:05.000000Z07:00"

// version is the version of the event's type.
func (e *Event) version() int {
	if e.Schema == nil {
		return 1
	}
	return e.Schema.Version
}

// appendKey appends the key's columns as an object.
func (e *Event) appendKey(dst []byte) []byte {
	r, ok := e.keyed()
	if !ok {
		return append(dst, "null"...)
	}
	for i, column := range e.Schema.Key {
		dst = append(dst, "{,"[min(i, 1)])
		dst = appendMember(dst, &e.Schema.Columns[column], r.Column(column))
	}
	return append(dst, '}')
}

// appendData appends the event's data.
func (e *Event) appendData(dst []byte) []byte {
	switch e.Op {
	case Message:
		return e.appendMessage(dst)
	case Gap:
		return append(dst, e.Content...) // JSON of ours; see GapOf
	}
	dst = append(dst, `{"before":`...)
	dst = appendRow(dst, e.Schema, e.Before, e.BeforeComplete)
	dst = append(dst, `,"after":`...)
	dst = appendRow(dst, e.Schema, e.After, true)
	dst = append(dst, `,"before_complete":`...)
	dst = strconv.AppendBool(dst, e.Before != nil && e.BeforeComplete)
	dst = append(dst, `,"changed":`...)
	return append(e.appendChanged(dst), '}')
}

// appendMessage appends the data of a logical message.
func (e *Event) appendMessage(dst []byte) []byte {
	dst = append(dst, `{"prefix":`...)
	dst = row.AppendJSONString(dst, []byte(e.Prefix))
	if utf8.Valid(e.Content) {
		dst = append(dst, `,"content":`...)
		dst = row.AppendJSONString(dst, e.Content)
		return append(dst, '}')
	}
	dst = append(dst, `,"content_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, e.Content)
	return append(dst, `"}`...)
}

// appendRow appends a row as an object. Of a row that is not complete, nulls are columns that are not known.
func appendRow(dst []byte, s *row.Schema, r row.Row, complete bool) []byte {
	if r == nil {
		return append(dst, "null"...)
	}
	var room [64]row.Value
	values := r.Values(room[:0])
	dst = append(dst, '{')
	first := true
	for i := range s.Columns {
		v := row.Value{Kind: row.Null} // a row that is older than the column
		if i < len(values) {
			v = values[i]
		}
		if v.Kind == row.Unchanged || v.Kind == row.Null && !complete {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendMember(dst, &s.Columns[i], v)
	}
	return append(dst, '}')
}

// appendMember appends a column's name and value.
func appendMember(dst []byte, c *row.Column, v row.Value) []byte {
	dst = row.AppendJSONString(dst, []byte(c.Name))
	dst = append(dst, ':')
	if !v.IsText() {
		return append(dst, "null"...)
	}
	return row.AppendJSON(dst, &c.Type, v.Text)
}

// appendChanged appends the names of the columns that an update changed.
func (e *Event) appendChanged(dst []byte) []byte {
	if e.Op != Update || !e.BeforeComplete || e.Before == nil || e.After == nil {
		return append(dst, "null"...)
	}
	var roomBefore, roomAfter [64]row.Value
	before, after := e.Before.Values(roomBefore[:0]), e.After.Values(roomAfter[:0])
	dst = append(dst, '[')
	first := true
	for i := range min(len(before), len(after), len(e.Schema.Columns)) {
		// An unchanged value is the one that is there already, known or not.
		if after[i].Kind == row.Unchanged || before[i].Kind == after[i].Kind && bytes.Equal(before[i].Text, after[i].Text) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = row.AppendJSONString(dst, []byte(e.Schema.Columns[i].Name))
	}
	return append(dst, ']')
}
