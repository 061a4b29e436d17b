package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The supervisor is this same binary, started again with supervisorEnv set. It holds the shared stack of one
// owner, serves requests on a socket in the stack's folder, and ends when the owner is gone.
const (
	supervisorEnv  = "LANTERNIST_DEVSTACK_SUPERVISOR"
	socketFile     = "socket"
	supervisorLog  = "supervisor.log"
	readyLine      = "ready\n"
	ownerPollEvery = 100 * time.Millisecond
)

// supervision is the value of supervisorEnv.
type supervision struct {
	Dir   string
	Owner process
}

// request asks the supervisor for a service; it is one line of JSON, answered by lines of JSON.
type request struct {
	Service string // postgres, elasticsearch, redis
	Version string // of postgres
}

// answer is a line of progress, or the end of the exchange.
type answer struct {
	Progress    string `json:",omitempty"`
	URL         string `json:",omitempty"`
	Error       string `json:",omitempty"`
	Unavailable bool   `json:",omitempty"`
}

// The hook must run before main, and so before a test binary parses its flags.
func init() { //nolint:gochecknoinits // see above
	if spec := os.Getenv(supervisorEnv); spec != "" {
		if err := supervise(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // this process is nothing but the supervisor
		}
		os.Exit(0) //nolint:forbidigo // as above
	}
}

// supervise is the supervisor's main function. It returns when everything is stopped and removed.
func supervise(spec string) error {
	var s supervision
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return fmt.Errorf("read %s: %w", supervisorEnv, err)
	}
	dir, err := holdDir(s.Dir)
	if err != nil {
		return err
	}
	v := &supervisor{waiting: map[chan string]bool{}, services: map[request]*shared{}}
	v.host, err = newHost(dir, slog.New(slog.NewTextHandler(os.Stderr, nil)), v.broadcast)
	if err != nil {
		return errors.Join(err, dir.remove())
	}
	listener, err := net.Listen("unix", filepath.Join(s.Dir, socketFile))
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), v.host.close())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { v.serve(ctx, listener, &group) })
	announced := announce()
	if announced == nil {
		awaitEnd(ctx, s.Owner)
	}
	cancel()
	closed := errors.Join(listener.Close(), v.host.close())
	group.Wait()
	return errors.Join(announced, closed)
}

// announce tells the starter, through the inherited pipe, that the socket is there.
func announce() error {
	pipe := os.NewFile(3, "ready")
	_, err := pipe.WriteString(readyLine)
	return errors.Join(err, pipe.Close())
}

// awaitEnd returns when the owner is gone or ctx has ended.
func awaitEnd(ctx context.Context, owner process) {
	tick := time.NewTicker(ownerPollEvery)
	defer tick.Stop()
	for owner.runs() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// supervisor starts each service once, when it is first asked for.
type supervisor struct {
	host *host

	mu       sync.Mutex
	services map[request]*shared
	waiting  map[chan string]bool
}

// shared is a service that was asked for.
type shared struct {
	once   sync.Once
	server server
	err    error
}

func (v *supervisor) serve(ctx context.Context, listener net.Listener, group *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed: the supervisor ends
		}
		group.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			if err := v.handle(ctx, conn); err != nil {
				v.host.log.Warn("request ended", "error", err)
			}
		})
	}
}

// handle answers one request on a connection.
func (v *supervisor) handle(ctx context.Context, conn net.Conn) error {
	var req request
	if err := json.NewDecoder(conn).Decode(&req); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	lines, unsubscribe := v.subscribe()
	defer unsubscribe()
	result := make(chan answer, 1)
	go func() { result <- v.answer(ctx, req) }()
	out := json.NewEncoder(conn)
	for {
		select {
		case line := <-lines:
			if err := out.Encode(answer{Progress: line}); err != nil {
				return fmt.Errorf("write progress: %w", err)
			}
		case a := <-result:
			if err := out.Encode(a); err != nil {
				return fmt.Errorf("write answer: %w", err)
			}
			return nil
		}
	}
}

// answer starts the service if nobody did, and waits for it.
func (v *supervisor) answer(ctx context.Context, req request) answer {
	v.mu.Lock()
	s := v.services[req]
	if s == nil {
		s = &shared{}
		v.services[req] = s
	}
	v.mu.Unlock()
	s.once.Do(func() { s.server, s.err = v.start(ctx, req) })
	if s.err != nil {
		return answer{Error: s.err.Error(), Unavailable: errors.Is(s.err, ErrUnavailable)}
	}
	return answer{URL: s.server.url()}
}

func (v *supervisor) start(ctx context.Context, req request) (server, error) {
	switch req.Service {
	case "postgres":
		// What a test writes is thrown away: it need not survive the machine.
		return newPostgres(ctx, v.host, PostgresOptions{Version: req.Version, Settings: map[string]string{"fsync": "off"}})
	case "elasticsearch":
		return newElasticsearch(ctx, v.host, ElasticsearchOptions{JavaOptions: []string{quickCompiler}})
	case "redis":
		return newRedis(ctx, v.host, RedisOptions{})
	default:
		return nil, fmt.Errorf("unknown service %q", req.Service)
	}
}

// subscribe returns a channel of progress lines. A slow reader misses lines; it delays nobody.
func (v *supervisor) subscribe() (lines chan string, unsubscribe func()) {
	lines = make(chan string, 64)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiting[lines] = true
	return lines, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.waiting, lines)
	}
}

func (v *supervisor) broadcast(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for lines := range v.waiting {
		select {
		case lines <- line:
		default:
		}
	}
}
