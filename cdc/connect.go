package cdc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// sessionSettings are set on every connection. The first group decides what text values have, and must be the
// same wherever rows are read; the second keeps a server's own limits and filters from cutting a copy short.
var sessionSettings = map[string]string{
	"client_encoding":    "UTF8",
	"DateStyle":          "ISO, MDY",
	"IntervalStyle":      "postgres",
	"TimeZone":           "UTC",
	"extra_float_digits": "1",   // the shortest text that reads back as the same number
	"bytea_output":       "hex", //
	"search_path":        "pg_catalog",
	"xmloption":          "content",
	"lc_monetary":        "C", // money: "-$1,234.56"

	"quote_all_identifiers": "off", // regclass and its like

	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"row_security":                        "off", // an error instead of rows that are left out
}

// readBufferSize is how much one read may take from the network on connections that copy tables.
const readBufferSize = 64 << 10

func prepare(cfg Config, pc *pgconn.Config) {
	if pc.RuntimeParams["application_name"] == "" {
		pc.RuntimeParams["application_name"] = "lanternist"
	}
	for name := range pc.RuntimeParams {
		for ours := range sessionSettings {
			if strings.EqualFold(name, ours) {
				delete(pc.RuntimeParams, name)
			}
		}
	}
	for name, value := range sessionSettings {
		pc.RuntimeParams[name] = value
	}
	pc.ConnectTimeout = cfg.ConnectTimeout
	for _, f := range pc.Fallbacks {
		if pc.ValidateConnect == nil && (f.Host != pc.Host || f.Port != pc.Port) {
			// Several servers are named, of which one is the primary, whoever that is at the moment.
			pc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		}
	}
	pc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBufferSize), w)
	}
}

// normalConfig is the configuration of a connection for queries.
func normalConfig(cfg Config) (*pgx.ConnConfig, error) {
	pc, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, err
	}
	prepare(cfg, &pc.Config)
	return pc, nil
}

// Connect opens a connection for queries, with the session settings that all of the package's connections have.
// A URL that cannot be parsed, a refused password and a missing database are told apart by the pgconn errors.
func Connect(ctx context.Context, cfg Config) (*pgx.Conn, error) {
	cfg = cfg.withDefaults()
	pc, err := normalConfig(cfg)
	if err != nil {
		return nil, fatal{err}
	}
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := takeAnyBytes(ctx, conn.PgConn()); err != nil {
		closeConn(conn.PgConn())
		return nil, err
	}
	return conn, nil
}

// takeAnyBytes lets a database without an encoding (SQL_ASCII) send what it holds. Asked for UTF-8 it would answer with an error,
// for ever, as soon as a value is not that, and no row behind it would come any more. Such values are rows like any others; in
// documents their bytes become U+FFFD.
func takeAnyBytes(ctx context.Context, conn *pgconn.PgConn) error {
	if conn.ParameterStatus("server_encoding") != encodingNone {
		return nil
	}
	if _, err := conn.Exec(ctx, "SET client_encoding TO "+encodingNone).ReadAll(); err != nil {
		return fmt.Errorf("set the client's encoding: %w", err)
	}
	return nil
}

// encodingNone is the encoding of a database whose texts are bytes of no known encoding.
const encodingNone = "SQL_ASCII"

// connectReplication opens a replication connection to the database. The wire is the reader that the
// connection's own protocol code reads from: once the connection streams, the caller reads from it directly.
func connectReplication(ctx context.Context, cfg Config) (*pgconn.PgConn, *wire, error) {
	pc, err := pgconn.ParseConfig(cfg.URL)
	if err != nil {
		return nil, nil, fatal{err}
	}
	prepare(cfg, pc)
	pc.RuntimeParams["replication"] = "database"
	var w *wire
	pc.BuildFrontend = func(r io.Reader, out io.Writer) *pgproto3.Frontend {
		w = &wire{r: r} // one per attempt; the last is the one that is connected
		return pgproto3.NewFrontend(w, out)
	}
	conn, err := pgconn.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, nil, fmt.Errorf("connect for replication: %w", err)
	}
	if err := takeAnyBytes(ctx, conn); err != nil {
		closeConn(conn)
		return nil, nil, err
	}
	return conn, w, nil
}

// wire feeds a pgproto3.Frontend without letting it read ahead: the frontend reads in chunks as large as it
// gets, so it is given one byte at a time, and never holds bytes that belong to the stream that follows.
type wire struct {
	r          io.Reader
	buf        [8192]byte
	start, end int
}

func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.start == w.end {
		n, err := w.r.Read(w.buf[:])
		w.start, w.end = 0, n
		if n == 0 {
			return 0, err
		}
	}
	p[0] = w.buf[w.start]
	w.start++
	return 1, nil
}

// stream reads what comes next, as much as p holds and is there.
func (w *wire) stream(p []byte) (int, error) {
	if w.start < w.end {
		n := copy(p, w.buf[w.start:w.end])
		w.start += n
		return n, nil
	}
	return w.r.Read(p)
}

// serverVersion is the server's version as a number, 150004 for 15.4 and 180000 for 18beta1.
func serverVersion(conn *pgconn.PgConn) (int, error) {
	text := conn.ParameterStatus("server_version")
	var major, minor int
	if n, err := fmt.Sscanf(text, "%d.%d", &major, &minor); n == 0 {
		return 0, fmt.Errorf("server version %q: %w", text, err)
	}
	return major*10000 + minor, nil
}

// quoteLiteral is s as an SQL string constant.
func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// quoteIdentifier is s as an SQL identifier.
func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
