package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/lanternist/lanternist/internal/faultproxy"
	"github.com/lanternist/lanternist/internal/faults"
)

// kind is one kind of fault that a storm can have, alone or with others at random.
type kind struct {
	faults.Fault
	uses string // words; faults with the same word do not come at once
	// cause begins the fault and ends it. It uses the chance for how long and how hard.
	cause func(context.Context, *storm, *rand.Rand) error
}

// What can have one fault at a time.
const (
	usesDaemon = "daemon"
	usesSource = "source"
	usesSearch = "search"
	usesCache  = "cache"
	usesRows   = "rows"
	usesSinks  = usesSearch + " " + usesCache
)

// lasting waits for a random time between two.
func lasting(ctx context.Context, r *rand.Rand, least, most time.Duration) error {
	timer := time.NewTimer(least + time.Duration(r.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// during is a fault that has a beginning, a random time, and an end, which comes in any case.
func during(least, most time.Duration, begin func(*storm, *rand.Rand) error, end func(*storm) error) func(context.Context, *storm, *rand.Rand) error {
	return func(ctx context.Context, s *storm, r *rand.Rand) (err error) {
		if err := begin(s, r); err != nil {
			return err
		}
		err = lasting(ctx, r, least, most)
		if e := end(s); e != nil {
			err = e
		}
		return err
	}
}

// kinds are all of them.
func kinds() []kind {
	all := append(processKinds(), sourceKinds()...)
	all = append(all, sinkKinds()...)
	for _, l := range []link{
		{"source", "Source", usesSource, "the source", func(s *storm) *faultproxy.Proxy { return s.source }},
		{"search", "Sinks", usesSearch, "Elasticsearch", func(s *storm) *faultproxy.Proxy { return s.search }},
		{"cache", "Sinks", usesCache, "Redis", func(s *storm) *faultproxy.Proxy { return s.cache }},
	} {
		all = append(all, l.kinds()...)
	}
	return all
}

func processKinds() []kind {
	signal := func(signal syscall.Signal) func(*storm) error {
		return func(s *storm) error {
			_, err := s.keeper.signal(signal)
			return err
		}
	}
	return []kind{{
		Fault: faults.Fault{ID: "daemon-killed", Area: "Process", Fault: "The daemon is killed (SIGKILL, out of memory) under traffic",
			Promise: "After a restart every view is right and the journal has each transaction once. Nothing is loaded or built anew.",
			Answer:  "nothing: the service manager starts it again"},
		uses: usesDaemon, cause: func(_ context.Context, s *storm, _ *rand.Rand) error { return s.keeper.kill() },
	}, {
		Fault: faults.Fault{ID: "daemon-killed-while-starting", Area: "Process", Fault: "The daemon is killed again and again while it starts",
			Promise: "A start that was cut off leaves nothing behind that the next one trips over.",
			Answer:  "nothing: the service manager starts it again"},
		uses: usesDaemon, cause: func(ctx context.Context, s *storm, r *rand.Rand) error {
			for range 3 {
				if err := s.keeper.kill(); err != nil {
					return err
				}
				if err := lasting(ctx, r, startAgain, startAgain+800*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		},
	}, {
		Fault: faults.Fault{ID: "daemon-terminated", Area: "Process", Fault: "The daemon is told to stop (SIGTERM) under traffic",
			Promise: "It drains in order within its deadlines and exits with 0; the next start goes on where it was.",
			Answer:  "nothing: the service manager starts it again"},
		uses: usesDaemon, cause: func(ctx context.Context, s *storm, _ *rand.Rand) error { return s.keeper.terminate(ctx) },
	}, {
		Fault: faults.Fault{ID: "daemon-paused", Area: "Process", Fault: "The daemon stands still for longer than wal_sender_timeout (SIGSTOP, a paused VM)",
			Promise: "The source drops the connection; the daemon connects again when it wakes, and no answer that it gives is old.",
			Answer:  "nothing: it reconnects"},
		uses:  usesDaemon,
		cause: during(senderTimeout/4, senderTimeout*2, func(s *storm, _ *rand.Rand) error { return signal(syscall.SIGSTOP)(s) }, signal(syscall.SIGCONT)),
	}, {
		Fault: faults.Fault{ID: "rebuild-under-faults", Area: "Process", Fault: "A view is rebuilt under traffic, and the daemon is killed in the middle",
			Promise: "The live generation is read all the time; the rebuild goes on or is undone at the next start, and leaves nothing half done.",
			Answer:  "`lanternist rebuild VIEW` again, if `lanternist status` shows the old generation"},
		uses: usesDaemon, cause: func(ctx context.Context, s *storm, r *rand.Rand) error {
			view := s.views[r.IntN(len(s.views))]
			_, _ = s.ask(http.MethodPost, "/v1/views/"+view+"/rebuild", nil) // it may be away, or building
			if err := lasting(ctx, r, 10*time.Millisecond, 2*time.Second); err != nil {
				return err
			}
			return s.keeper.kill()
		},
	}}
}

func sourceKinds() []kind {
	again := func(fail func(context.Context, *storm) error) func(context.Context, *storm, *rand.Rand) error {
		return func(ctx context.Context, s *storm, r *rand.Rand) error {
			if err := fail(ctx, s); err != nil {
				return err
			}
			waited := lasting(ctx, r, time.Millisecond, 4*time.Second)
			if err := s.server.Start(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			return waited
		}
	}
	return []kind{{
		Fault: faults.Fault{ID: "postgres-killed", Area: "Source", Fault: "Postgres is killed (SIGKILL) and recovers from its log; the slot moves back to its last checkpoint",
			Promise: "What the source sends again is recognised: the journal has each transaction once, no view goes back.",
			Answer:  "nothing: it reconnects"},
		uses: usesSource, cause: again(func(_ context.Context, s *storm) error { return s.server.Kill() }),
	}, {
		Fault: faults.Fault{ID: "postgres-immediate-stop", Area: "Source", Fault: "Postgres is stopped with `-m immediate` and started again",
			Promise: "As after a crash: the journal has each transaction once, no view goes back.",
			Answer:  "nothing: it reconnects"},
		uses: usesSource, cause: again(func(_ context.Context, s *storm) error { return s.server.Abort() }),
	}, {
		Fault: faults.Fault{ID: "postgres-fast-restart", Area: "Source", Fault: "Postgres is restarted in order (`-m fast`)",
			Promise: "Postgres does not wait for a sink: it has sent its log to the end when it stops. Reads with tokens are answered or refused, never old.",
			Answer:  "nothing: it reconnects"},
		uses: usesSource, cause: again(func(ctx context.Context, s *storm) error { return s.server.Stop(context.WithoutCancel(ctx)) }),
	}, {
		Fault: faults.Fault{ID: "postgres-paused", Area: "Source", Fault: "Postgres stands still for some seconds (SIGSTOP, a storage stall)",
			Promise: "Waiting reads are refused in time and not answered with old data; everything goes on when it does.",
			Answer:  "nothing: it goes on by itself"},
		uses: usesSource, cause: during(time.Second, 4*time.Second,
			func(s *storm, _ *rand.Rand) error { return s.server.Pause() }, func(s *storm) error { return s.server.Resume() }),
	}, {
		Fault: faults.Fault{ID: "walsender-paused", Area: "Source", Fault: "Postgres' walsender stands still",
			Promise: "The daemon goes on when the walsender does, or gives the connection up after a minute and makes another.",
			Answer:  "nothing: it goes on by itself"},
		uses: usesSource, cause: walsenderPaused,
	}, {
		Fault: faults.Fault{ID: "walsender-terminated", Area: "Source", Fault: "The replication connection is ended by an administrator (pg_terminate_backend)",
			Promise: "The daemon connects again at once, without a gap or a repetition.",
			Answer:  "nothing: it reconnects"},
		uses: usesSource, cause: func(ctx context.Context, s *storm, _ *rand.Rand) error {
			_, err := s.pool.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", s.slot)
			return err
		},
	}, {
		Fault: faults.Fault{ID: "sinks-blocked-past-sender-timeout", Area: "Source", Fault: "Neither Elasticsearch nor Redis can be reached for longer than wal_sender_timeout, under traffic",
			Promise: "The source does not notice: the same walsender goes on, what it sends is acknowledged when it is in the journal, and its WAL does not grow.",
			Answer:  "nothing: it retries until the sinks are back"},
		uses: usesSinks, cause: sinksBlocked,
	}, {
		Fault: faults.Fault{ID: "large-transaction", Area: "Source", Fault: "One transaction changes every order and ten thousand other rows",
			Promise: "It is journaled in parts and shown whole: no reader with a token sees a part of it.",
			Answer:  "nothing: `lanternist status` shows the lag shrink"},
		uses: usesRows, cause: largeTransaction,
	}, {
		Fault: faults.Fault{ID: "table-truncated", Area: "Source", Fault: "TRUNCATE of a table that views join",
			Promise: "Every document of every view that joins it is composed anew from what is left.",
			Answer:  "nothing: the views are reconciled by themselves"},
		uses: usesRows, cause: func(ctx context.Context, s *storm, r *rand.Rand) error {
			_, err := s.pool.Exec(ctx, "TRUNCATE "+[]string{"shipments", "payments", "order_items"}[r.IntN(3)])
			return err
		},
	}}
}

// walsenderPaused stops the process that serves the slot. The server may be restarted meanwhile by nobody: it uses the source.
func walsenderPaused(ctx context.Context, s *storm, r *rand.Rand) error {
	var pid int
	err := s.pool.QueryRow(ctx, "SELECT coalesce((SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1), 0)", s.slot).Scan(&pid)
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop the walsender: %w", err)
	}
	waited := lasting(ctx, r, senderTimeout/2, senderTimeout*2)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("let the walsender go on: %w", err)
	}
	return waited
}

// sinksBlocked keeps both sinks away for more than twice wal_sender_timeout. The walsender must stay, and the slot move on.
func sinksBlocked(ctx context.Context, s *storm, r *rand.Rand) (err error) {
	look := func() (pid int, confirmed int64, err error) {
		err = s.pool.QueryRow(ctx, `SELECT coalesce(active_pid, 0), (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots
			WHERE slot_name = $1`, s.slot).Scan(&pid, &confirmed)
		return pid, confirmed, err
	}
	before, from, err := look()
	if err != nil {
		return err
	}
	for _, p := range []*faultproxy.Proxy{s.search, s.cache} {
		if err := p.Refuse(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Heal()) }()
	}
	if err := lasting(ctx, r, senderTimeout*2, senderTimeout*5/2); err != nil {
		return err
	}
	after, to, err := look()
	if err == nil && s.alone && (before != after || to <= from) {
		return fmt.Errorf("the walsender was %d and is %d, the slot stood at %d and stands at %d", before, after, from, to)
	}
	return err
}

func largeTransaction(ctx context.Context, s *storm, _ *rand.Rand) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{
		// In the order in which others lock them.
		`SELECT FROM orders ORDER BY id FOR UPDATE`,
		`UPDATE orders SET note = 'all at once ' || random()`,
		`INSERT INTO customers (email, name, country) SELECT gen_random_uuid() || '@many.example', 'One of many', 'NO' FROM generate_series(1, 5000)`,
		`DELETE FROM customers c WHERE name = 'One of many' AND NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func sinkKinds() []kind {
	return []kind{{
		Fault: faults.Fault{ID: "elasticsearch-paused", Area: "Sinks", Fault: "Elasticsearch stands still for some seconds (SIGSTOP, a long garbage collection)",
			Promise: "Redis and the journal go on; searches are refused in time; what was under way is repeated and changes nothing twice.",
			Answer:  "nothing: it goes on by itself"},
		uses: usesSearch, cause: during(2*time.Second, 12*time.Second,
			func(s *storm, _ *rand.Rand) error { return s.stack.PauseElasticsearch() }, func(s *storm) error { return s.stack.ResumeElasticsearch() }),
	}, {
		Fault: faults.Fault{ID: "elasticsearch-killed", Area: "Sinks", Fault: "Elasticsearch is killed (SIGKILL) while bulk requests are under way, and started again",
			Promise: "Every write that was not answered is repeated; documents and checkpoint come back together, and nothing is missing or old.",
			Answer:  "nothing: it retries until Elasticsearch is back"},
		uses: usesSearch, cause: func(ctx context.Context, s *storm, r *rand.Rand) error {
			if err := s.stack.KillElasticsearch(); err != nil {
				return err
			}
			waited := lasting(ctx, r, time.Millisecond, 4*time.Second)
			if err := s.stack.StartElasticsearch(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			return waited
		},
	}, {
		Fault: faults.Fault{ID: "elasticsearch-restarted", Area: "Sinks", Fault: "Elasticsearch is restarted in order while bulk requests are under way",
			Promise: "What it refuses while it stops is no dead letter: it is repeated until it is taken.",
			Answer:  "nothing: it retries until Elasticsearch is back"},
		uses: usesSearch, cause: func(ctx context.Context, s *storm, _ *rand.Rand) error {
			ctx = context.WithoutCancel(ctx)
			if err := s.stack.StopElasticsearch(ctx); err != nil {
				return err
			}
			return s.stack.StartElasticsearch(ctx)
		},
	}, {
		Fault: faults.Fault{ID: "redis-paused", Area: "Sinks", Fault: "Redis stands still for some seconds (SIGSTOP, a fork of a large instance)",
			Promise: "Elasticsearch and the journal go on; reads are refused in time; what was under way is repeated and changes nothing twice.",
			Answer:  "nothing: it goes on by itself"},
		uses: usesCache, cause: during(time.Second, 8*time.Second,
			func(s *storm, _ *rand.Rand) error { return s.stack.PauseRedis() }, func(s *storm) error { return s.stack.ResumeRedis() }),
	}, {
		Fault: faults.Fault{ID: "redis-killed-with-data", Area: "Sinks", Fault: "Redis is killed (SIGKILL) and comes back with its data",
			Promise: "It is recognised as the same, and followed on from the checkpoint in it. Nothing is filled anew.",
			Answer:  "nothing: it retries until Redis is back"},
		uses: usesCache, cause: redisKilled(false),
	}, {
		Fault: faults.Fault{ID: "redis-killed-without-data", Area: "Sinks", Fault: "Redis is killed (SIGKILL) and comes back empty",
			Promise: "That data was lost is noticed: reads are refused, not answered with 404, until every view is filled again from the mirror.",
			Answer:  "nothing: it fills itself; `lanternist status` shows how far it is"},
		uses: usesCache, cause: redisKilled(true),
	}}
}

func redisKilled(empty bool) func(context.Context, *storm, *rand.Rand) error {
	return func(ctx context.Context, s *storm, r *rand.Rand) error {
		if err := s.stack.KillRedis(); err != nil {
			return err
		}
		if empty {
			if err := s.stack.EraseRedis(); err != nil {
				return err
			}
		}
		waited := lasting(ctx, r, time.Millisecond, 4*time.Second)
		if err := s.stack.StartRedis(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		return waited
	}
}

// link is the network between the daemon and one of its services.
type link struct {
	name, area, uses, service string
	proxy                     func(*storm) *faultproxy.Proxy
}

func (l link) kinds() []kind {
	make := func(id, what, promise string, least, most time.Duration, begin func(*faultproxy.Proxy, *rand.Rand) error) kind {
		return kind{
			Fault: faults.Fault{ID: l.name + "-link-" + id, Area: l.area, Fault: fmt.Sprintf(what, l.service), Promise: promise,
				Answer: "nothing: it goes on by itself; `lanternist status` names what it waits for"},
			uses: l.uses,
			cause: during(least, most, func(s *storm, r *rand.Rand) error { return begin(l.proxy(s), r) },
				func(s *storm) error { return l.proxy(s).Heal() }),
		}
	}
	ways := []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient, faultproxy.Both}
	return []kind{
		make("delayed", "The network to %s is slow: each packet takes up to 250 ms", "Lag grows by the round trips; nothing is repeated, no answer is old.",
			4*time.Second, 10*time.Second, func(p *faultproxy.Proxy, r *rand.Rand) error {
				p.Delay(faultproxy.Both, 20*time.Millisecond+time.Duration(r.Int64N(int64(230*time.Millisecond))))
				return nil
			}),
		make("throttled", "The network to %s is narrow: 64 to 256 KiB/s", "Lag grows and then shrinks; memory does not: what does not fit waits at the source.",
			4*time.Second, 10*time.Second, func(p *faultproxy.Proxy, r *rand.Rand) error {
				p.Throttle(ways[r.IntN(3)], (64+r.IntN(192))<<10)
				return nil
			}),
		make("cut", "All connections to %s are cut at once", "They are made anew, without a gap or a repetition in what is shown.",
			time.Millisecond, 500*time.Millisecond, func(p *faultproxy.Proxy, _ *rand.Rand) error {
				p.Cut()
				return nil
			}),
		make("refused", "%s cannot be reached: its host is gone and connections are refused", "The others go on. Attempts are spaced out; everything is caught up with afterwards.",
			2*time.Second, 10*time.Second, func(p *faultproxy.Proxy, _ *rand.Rand) error { return p.Refuse() }),
		make("stalled", "Nothing arrives from and at %s for some seconds, then everything does", "Nothing is lost and nothing is taken twice.",
			time.Second, 8*time.Second, func(p *faultproxy.Proxy, r *rand.Rand) error {
				p.Hold(ways[r.IntN(3)])
				return nil
			}),
		make("half-open", "Connections to %s are half-open: what is sent vanishes, and nobody says so", "They are given up within a minute and made anew.",
			2*time.Second, 12*time.Second, func(p *faultproxy.Proxy, r *rand.Rand) error {
				p.Vanish(ways[r.IntN(3)])
				return nil
			}),
		make("reset-mid-message", "A connection to %s is reset in the middle of a message", "The half that came is thrown away and the whole is taken again, once.",
			2*time.Second, 4*time.Second, func(p *faultproxy.Proxy, r *rand.Rand) error {
				p.ResetAfter(ways[r.IntN(2)], 1+r.Int64N(20_000))
				return nil
			}),
	}
}
