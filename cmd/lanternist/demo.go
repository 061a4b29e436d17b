package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
)

type demoCmd struct {
	Once      bool          `help:"Run for a bounded time, then compare every document with the source, and exit."`
	For       time.Duration `default:"20s" help:"How long the traffic of --once lasts."`
	Rate      int           `default:"300" help:"Transactions per second; 0 is as many as the database takes."`
	Workers   int           `default:"4" help:"Connections that make traffic."`
	Customers int           `default:"8000" help:"Customers to begin with."`
	Products  int           `default:"2000" help:"Products to begin with."`
	Orders    int           `default:"20000" help:"Orders to begin with."`
	Postgres  string        `help:"Postgres version, 14 to 18. Default: what is installed, else 17." placeholder:"VERSION"`
	Listen    string        `default:"127.0.0.1:8080" help:"Where the API listens; another port is taken when this one is in use."`
	Seed      uint64        `help:"Seed of the traffic. Default: another one each time."`
	Verbose   bool          `short:"v" help:"Show the daemon's log."`
	JSON      bool          `help:"Print the summary of --once as JSON."`
}

// Run is the demonstration.
func (c *demoCmd) Run(a *app) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }
	say("Starting Postgres, Elasticsearch and Redis …")
	began := time.Now()
	stack, err := devstack.Start(a.ctx, devstack.Options{
		Postgres: &devstack.PostgresOptions{Version: c.Postgres}, Elasticsearch: &devstack.ElasticsearchOptions{},
		Redis: &devstack.RedisOptions{}, Progress: a.stderr,
	})
	if err != nil {
		return fmt.Errorf("start services: %w", err)
	}
	defer func() { err = errors.Join(err, stack.Close()) }()
	say("Services are up after %s.", short(time.Since(began)))

	database, err := c.createShop(a.ctx, stack.Postgres())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lanternist-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg, err := c.configure(a.ctx, dir, database, stack)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if c.Verbose {
		log = a.logger(cfg.Log)
	}
	d, err := openDeployment(a.ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	n, err := newDaemon(d)
	if err != nil {
		return err
	}
	return c.show(a, n, say)
}

// createShop makes a database of its own and fills it.
func (c *demoCmd) createShop(ctx context.Context, server string) (string, error) {
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", fmt.Errorf("connect to Postgres: %w", err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, "CREATE DATABASE shop"); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("connect to Postgres: %w", err)
	}
	u.Path = "/shop"
	database := u.String()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return "", fmt.Errorf("connect to the shop: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return database, shop.Create(ctx, conn, shop.Size{Customers: c.Customers, Products: c.Products, Orders: c.Orders})
}

// configure writes the files that a user would write, and reads them.
func (c *demoCmd) configure(ctx context.Context, dir, database string, stack *devstack.Stack) (*config.Config, error) {
	if err := os.Mkdir(filepath.Join(dir, "views"), 0o700); err != nil {
		return nil, err
	}
	for _, v := range shop.Views() {
		if err := os.WriteFile(filepath.Join(dir, "views", v+".yaml"), shop.Definition(v), 0o600); err != nil {
			return nil, err
		}
	}
	env := map[string]string{"DATABASE_URL": database, "ELASTICSEARCH_URL": stack.Elasticsearch(), "REDIS_URL": stack.Redis()}
	text := fmt.Sprintf(`source: {url: "${DATABASE_URL}", tables: [%s]}
elasticsearch: {url: "${ELASTICSEARCH_URL}"}
redis: {url: "${REDIS_URL}"}
http: {listen: %q}
views: [views/*.yaml]
`, strings.Join(shop.Tables(), ", "), freeAddress(ctx, c.Listen))
	file := filepath.Join(dir, "lanternist.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return config.Parse(file, []byte(text), func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
}

// show runs the daemon and the traffic.
func (c *demoCmd) show(a *app, n *daemon, say func(string, ...any)) error {
	ctx, stop := context.WithCancelCause(a.ctx)
	defer stop(nil)
	bar := a.newProgress("load tables", "rows")
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx, bar) }()

	result := c.act(ctx, a, n, say, ended)
	stop(errors.New("the demo is over"))
	if result.daemonEnded {
		return result.err
	}
	return errors.Join(result.err, <-ended)
}

// outcome is how the demo's own part ended.
type outcome struct {
	err         error
	daemonEnded bool
}

func (c *demoCmd) act(ctx context.Context, a *app, n *daemon, say func(string, ...any), ended <-chan error) outcome {
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { done <- c.perform(ctx, a, n, say) }()
	select {
	case err := <-ended:
		cancel()
		return outcome{errors.Join(err, <-done), true}
	case err := <-done:
		if a.ctx.Err() != nil {
			err = nil // a person ended it
		}
		return outcome{err, false}
	}
}

// perform waits for the views, makes traffic, and, with --once, compares.
func (c *demoCmd) perform(ctx context.Context, a *app, n *daemon, say func(string, ...any)) error {
	began := time.Now()
	if err := n.waitUntilRunning(ctx, a.newProgress("build views", "documents")); err != nil {
		return err
	}
	load := n.loader.Progress()
	say("%s rows loaded and %d views built in both sinks after %s.", thousands(load.Rows), len(n.views), short(time.Since(began)))
	c.printURLs(a, n)

	pool, err := c.pool(ctx, n)
	if err != nil {
		return err
	}
	defer pool.Close()
	seed := c.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	traffic := &shop.Traffic{Pool: pool, Workers: c.Workers, Rate: c.Rate, Seed: seed}
	if !c.Once {
		say("Traffic is on (seed %d). Ctrl-C ends everything.", seed)
		return c.trafficFor(ctx, a, n, traffic, 0)
	}
	say("Traffic for %s (seed %d) …", c.For, seed)
	if err := c.trafficFor(ctx, a, n, traffic, c.For); err != nil {
		return err
	}
	say("Traffic is over. Comparing every document with the source …")
	return c.report(ctx, a, n, traffic)
}

func (c *demoCmd) pool(ctx context.Context, n *daemon) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(n.cfg.Source.URL.Reveal())
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(c.Workers) + 1
	return pgxpool.NewWithConfig(ctx, cfg)
}

// trafficFor makes traffic for a time, or until ctx ends, and shows how the projectors keep up.
func (c *demoCmd) trafficFor(ctx context.Context, a *app, n *daemon, traffic *shop.Traffic, limit time.Duration) error {
	tctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if limit > 0 {
		tctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	line := newLiveLine(a.stderr, n, traffic)
	defer line.stop()
	err := traffic.Run(tctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, ctx.Err())
}

// summary is what demo --once has found.
type summary struct {
	Documents    int            `json:"documents_compared"`
	Views        int            `json:"views"`
	Sinks        int            `json:"sinks"`
	Events       uint64         `json:"events"`
	Transactions int64          `json:"transactions"`
	RolledBack   int64          `json:"rolled_back"`
	Written      uint64         `json:"documents_written"`
	Parked       int            `json:"dead_letters"`
	Comparison   shopComparison `json:"comparison"`
}

type shopComparison = shop.Comparison

func (c *demoCmd) report(ctx context.Context, a *app, n *daemon, traffic *shop.Traffic) error {
	result, err := n.compareShop(ctx)
	if err != nil {
		return err
	}
	counts := traffic.Counts()
	s := summary{
		Documents: result.Compared, Views: len(n.views), Sinks: 2, Events: n.pump.Events(), Transactions: counts.Committed,
		RolledBack: counts.RolledBack + counts.Conflicts, Comparison: result,
	}
	for _, r := range n.runners.list() {
		status := r.Status()
		s.Written += status.Documents
		s.Parked += status.Parked
	}
	if c.JSON {
		if err := printJSON(a.stdout, s); err != nil {
			return err
		}
	} else {
		s.print(a)
	}
	if !result.Equal() || s.Parked > 0 {
		return &exitError{exitDifferent, fmt.Errorf("%d documents are not as the source says, %d are parked", result.Different+result.Missing+result.Extra, s.Parked)}
	}
	return nil
}

func (s *summary) print(a *app) {
	fmt.Fprintf(a.stdout, "transactions  %s committed, %s rolled back\n", thousands(s.Transactions), thousands(s.RolledBack))
	fmt.Fprintf(a.stdout, "events        %s in the journal\n", thousands(s.Events))
	fmt.Fprintf(a.stdout, "written       %s documents\n", thousands(s.Written))
	fmt.Fprintf(a.stdout, "compared      %s documents of %d views in %d sinks\n", thousands(s.Documents), s.Views, s.Sinks)
	fmt.Fprintf(a.stdout, "different %d, missing %d, extra %d, dead letters %d\n",
		s.Comparison.Different, s.Comparison.Missing, s.Comparison.Extra, s.Parked)
	for _, d := range s.Comparison.Differences {
		fmt.Fprintln(a.stdout, "  "+d.String())
	}
}

func (c *demoCmd) printURLs(a *app, n *daemon) {
	base := "http://" + n.cfg.HTTP.Listen
	fmt.Fprintf(a.stdout, `
Try:
  curl %[1]s/v1/views/order_summary/42
  curl '%[1]s/v1/views/order_summary?customer_id=7'
  curl '%[1]s/v1/views/order_summary/search?q=renamed&facets=status&sort=-total'
  curl %[1]s/v1/status
  open %[1]s/docs

Change something and read it back:
  token=$(psql '%[2]s' -Atqc "UPDATE orders SET note = 'seen' WHERE id = 42" -c "SELECT pg_current_wal_flush_lsn()")
  curl "%[1]s/v1/views/order_summary/42?after=$token"

`, base, n.cfg.Source.URL.Reveal())
}

// waitUntilRunning waits until every projector follows the journal, and draws how far those are that build a view.
func (n *daemon) waitUntilRunning(ctx context.Context, bar *progress) error {
	defer bar.finish()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	totals := map[string]int64{} // as last told: a projector that is done tells nothing any more
	for {
		var done, total int64
		running := 0
		all := n.runners.list()
		for _, r := range all {
			s := r.Status()
			switch {
			case s.State == projectors.StateStopped && s.Error != "":
				return fmt.Errorf("projector %s stopped: %s", r.Name(), s.Error)
			case s.State == projectors.StateRunning, s.State == projectors.StatePending:
				running++
				done += totals[r.Name()]
			case s.Build != nil:
				totals[r.Name()] = s.Build.Total
				done += s.Build.Done
			}
			total += totals[r.Name()]
		}
		if running == len(all) {
			return nil
		}
		if total > 0 {
			bar.set(done, total)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitForAll waits until every projector has applied everything that is committed on the source now.
func (n *daemon) waitForAll(ctx context.Context, conn *pgx.Conn) error {
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		return fmt.Errorf("ask the source for its position: %w", err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("ask the source for its position: %w", err)
	}
	for _, r := range n.runners.list() {
		for {
			n.reader.RequestPosition(lsn)
			wait, cancel := context.WithTimeout(ctx, time.Second)
			_, err := r.Wait(wait, lsn)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if s := r.Status(); s.State == projectors.StateStopped {
				return fmt.Errorf("projector %s stopped: %s", r.Name(), s.Error)
			}
		}
	}
	return nil
}
