package mirror

import (
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/row"
)

// Errors that callers branch on.
var (
	// ErrStop is returned by a visitor that has seen enough; the visiting method then returns nil.
	ErrStop = errors.New("stop")
	// ErrLocked: another process, or this one, has the folder open.
	ErrLocked = errors.New("mirror is already open")
	// ErrFormat: the folder was written in a format that this version does not read.
	ErrFormat = errors.New("unknown mirror format")
	// ErrNoKey: a change does not carry the values of the table's key.
	ErrNoKey = errors.New("key of the row is not known")
	// ErrKeyChanged: the table's key columns are not those that its rows are stored by. StartLoad begins anew.
	ErrKeyChanged = errors.New("key columns of the table changed")
	// ErrUnknownValue: a value that Postgres did not send, because it did not change, is not in the mirror.
	// StartLoad begins anew.
	ErrUnknownValue = errors.New("unchanged value is not in the mirror")
	// ErrForsaken: the table is not followed any more, because a change of its definition left changes that cannot be applied.
	// DropTable begins anew.
	ErrForsaken = errors.New("table is not followed any more and must be loaded again")
	// ErrNotLoading: the table has no load under way.
	ErrNotLoading = errors.New("no load of the table is under way")
	// ErrLoading: the table's load is under way, and some of its ranges are not done.
	ErrLoading = errors.New("load of the table is not done")
	// ErrOldSnapshot: the consistent point of a load's session lies before the load's beginning.
	ErrOldSnapshot = errors.New("snapshot is older than the load")
	// ErrNoIndex: a lookup by columns that have no index.
	ErrNoIndex = errors.New("columns have no index")
	// ErrOrder: a batch would move the mirror backwards.
	ErrOrder = errors.New("offset is before the mirror's position")
	// ErrDone: the batch was committed, discarded, or failed.
	ErrDone = errors.New("batch is over")
	// ErrUnknownSchema: a stored row's schema is not in the registry.
	ErrUnknownSchema = errors.New("schema is not registered")
	// ErrDamaged: files of the mirror are not as they were written. The tables must be loaded again, into a new folder.
	ErrDamaged = errors.New("mirror is damaged")
	// ErrCorrupt: stored bytes are not what the mirror writes.
	ErrCorrupt = errors.New("corrupt mirror record")
)

// UnfilledError is returned by FinishLoad when rows have unchanged values that none of the snapshots held. It
// happens when a row's primary key was updated between the snapshots of two sessions, so that the one missed it
// under its new key and the other under its old. Loading the rows of these keys from a newer snapshot mends it.
type UnfilledError struct {
	Table string
	Keys  [][]byte // encoded primary keys; at most 1,000 of them
}

// Error says which table it is, and names one of the rows.
func (e *UnfilledError) Error() string {
	return fmt.Sprintf("load of %s: %d or more rows have values that no snapshot held (first key %s); load these keys from a new snapshot",
		e.Table, len(e.Keys), printKey(e.Keys[0]))
}

// printKey is an encoded key in readable form.
func printKey(key []byte) string {
	s := ""
	for i, part := range row.SplitKey(key) {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf("%q", part)
	}
	return s
}
