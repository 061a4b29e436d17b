package event

import "github.com/lanternist/lanternist/row"

// Type is the type of an event made of a change of kind op of a table: "orders.created", ".updated",
// ".deleted", ".truncated". A table outside the namespace public has it in front: "sales.orders.created".
// A logical message is "message", a gap "gap".
func Type(op Op, s *row.Schema) string { return string(AppendType(nil, op, s)) }

// AppendType appends what Type returns.
func AppendType(dst []byte, op Op, s *row.Schema) []byte {
	if op == Gap {
		return append(dst, "gap"...)
	}
	if op == Message || s == nil {
		return append(dst, "message"...)
	}
	if s.Namespace != "public" {
		dst = append(dst, s.Namespace...)
		dst = append(dst, '.')
	}
	dst = append(dst, s.Name...)
	dst = append(dst, '.')
	return append(dst, op.past()...)
}

// past is the last part of an event type.
func (op Op) past() string {
	switch op {
	case Insert:
		return "created"
	case Update:
		return "updated"
	case Delete:
		return "deleted"
	case Truncate:
		return "truncated"
	case Message:
		return "message"
	case Gap:
		return "gap"
	default:
		return "unknown"
	}
}

// String is the operation's name as commands and dumps print it.
func (op Op) String() string {
	switch op {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	case Message:
		return "message"
	case Gap:
		return "gap"
	default:
		return "op(" + string(rune(op)) + ")"
	}
}

// Type is the event's type; see the function Type.
func (e *Event) Type() string { return Type(e.Op, e.Schema) }
