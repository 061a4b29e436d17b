package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// Severity says what a Problem prevents.
type Severity string

// The severities of problems.
const (
	Blocking Severity = "blocking" // the source cannot be captured, or not rightly, until it is fixed
	Warning  Severity = "warning"  // it can, at a cost that What names
	Note     Severity = "note"     // nothing is wrong; it says what will happen in a case that has not come
)

// Problem is one thing that is not as the configuration needs it.
type Problem struct {
	Code     string // stable, for programs: "wal-level", "table-missing", …
	What     string // one sentence for a person
	Fix      string // the SQL, or when it starts with "--" the action, that solves it
	Severity Severity
}

// Report is what Preflight found. Source and Tables are as complete as the problems allow.
type Report struct {
	Problems []Problem
	Notes    []Problem     // of severity Note
	Source   Source        // without ConfirmedFlush when there is no slot yet
	Tables   []*row.Schema // definitions of the tables that exist
}

// OK says whether no problem is blocking.
func (r *Report) OK() bool {
	for _, p := range r.Problems {
		if p.Severity == Blocking {
			return false
		}
	}
	return true
}

// Has says whether a problem of that code is among them.
func (r *Report) Has(code string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Code == code })
}

// Without is the report without problems of some codes.
func (r *Report) Without(codes ...string) *Report {
	rest := *r
	rest.Problems = slices.DeleteFunc(slices.Clone(r.Problems), func(p Problem) bool { return slices.Contains(codes, p.Code) })
	return &rest
}

// Err is an error that has every blocking problem, each with its fix; nil when there is none.
func (r *Report) Err() error {
	var errs []error
	for _, p := range r.Problems {
		if p.Severity == Blocking {
			errs = append(errs, fmt.Errorf("%s\n  fix: %s", p.What, p.Fix))
		}
	}
	return errors.Join(errs...)
}

func (r *Report) block(code, what, fix string) {
	r.Problems = append(r.Problems, Problem{code, what, fix, Blocking})
}

func (r *Report) warn(code, what, fix string) {
	r.Problems = append(r.Problems, Problem{code, what, fix, Warning})
}

// Preflight looks at the source and reports everything that stands in the way of capturing it, each with its
// fix. It changes nothing. An error means that the looking itself went wrong; a server that cannot be reached or
// refuses the user is a Problem.
func Preflight(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	report := &Report{Source: Source{Slot: cfg.Slot}}
	if err := cfg.Validate(); err != nil {
		for _, one := range unjoin(err) {
			report.block("configuration", one.Error(), "-- correct the source section of the configuration")
		}
		return report, nil
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		report.connection(ctx, cfg, err)
		return report, nil
	}
	defer closeConn(conn.PgConn())
	p := preflight{Report: report, cfg: cfg, conn: conn}
	for _, check := range []func(context.Context) error{
		p.server, p.role, p.replication, p.tables, p.publication, p.slot, p.failover,
	} {
		if err := check(ctx); err != nil {
			return nil, fmt.Errorf("preflight: %w", err)
		}
	}
	return report, nil
}

// unjoin is the list of errors that errors.Join made one of.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// preflight is one look at a source that could be connected to. Its methods are the checks, in order; each adds
// what it finds to the report and leaves behind what the later ones need.
type preflight struct {
	*Report
	cfg  Config
	conn *pgx.Conn

	version     int
	user        string
	superuser   bool
	mayRepl     bool
	mayCreate   bool // publications, in this database
	spareSlots  int
	spareSender int

	found catalogRelations // the tables of the configuration that exist
	owned map[uint32]bool  // which of them belong to the user
}
