package schemas

import (
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// EventType is the type of the events that changes of a table become: "orders.created", "orders.updated",
// "orders.deleted", "orders.truncated". Tables outside the namespace public have it in front:
// "sales.orders.created".
func EventType(op event.Op, s *row.Schema) string { return event.Type(op, s) }
