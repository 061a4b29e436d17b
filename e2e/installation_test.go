package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
)

// options say what an installation has. Zero fields are those of the shared stack.
type options struct {
	database *devstack.Database
	source   string            // URL for the daemon, when it is not the database's own
	search   string            // URL of the cluster
	cache    string            // URL of the Redis
	toSearch string            // URL of the cluster for the daemon, when it is another
	toCache  string            // URL of the Redis for the daemon, when it is another
	tables   []string          //
	views    map[string][]byte // file name without its ending → YAML
	extra    map[string]string // table beside the shop's → YAML of the view of its name
	journal  string            // YAML of the section, when it is not the embedded one
	nats     string            // URL of the server that has the journal, instead
	workers  int               // of the first load; 0 is the default
	batch    string            // source.batch_bytes; default 1MiB
	more     string            // YAML of further sections, instead of snapshot: {workers: …}
}

// installation is what a user has who runs Lanternist: a configuration file with its folder, and the services it names.
type installation struct {
	t           *testing.T
	dir         string
	file        string
	base        string // of the API
	environment []string

	database     *devstack.Database
	search       string
	searchPrefix string
	cache        string
	cachePrefix  string
	slot         string // also the publication
	nats         string // URL of the server that has the journal; none: it is in a folder
	views        []string
}

// install writes the configuration. It does not touch the database: slot and publication are left to the daemon.
func install(t *testing.T, o options) *installation {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	if o.database == nil {
		o.database = devstack.Postgres(t)
	}
	name := o.database.Name()
	in := &installation{
		t: t, dir: t.TempDir(), database: o.database, slot: name,
		search: o.search, searchPrefix: name + "-", cache: o.cache, cachePrefix: name + ":", nats: o.nats,
	}
	if in.search == "" {
		cluster := devstack.Elasticsearch(t)
		in.search, in.searchPrefix = cluster.URL(), cluster.Prefix()
	}
	if in.cache == "" {
		space := devstack.Redis(t)
		in.cache, in.cachePrefix = space.URL(), space.Prefix()
	}
	for daemons, own := range map[*string]string{&o.source: o.database.URL(), &o.toSearch: in.search, &o.toCache: in.cache} {
		if *daemons == "" {
			*daemons = own
		}
	}
	if o.nats != "" {
		o.journal = fmt.Sprintf("{url: %q, stream: %s}", o.nats, natsStream)
	}
	if o.journal == "" {
		o.journal = "{dir: data/journal}"
	}
	if o.batch == "" {
		o.batch = "1MiB"
	}
	if o.more == "" {
		o.more = fmt.Sprintf("snapshot: {workers: %d}\n", o.workers)
	}
	address := freeAddress(t)
	in.base = "http://" + address
	in.environment = append(os.Environ(), "DATABASE_URL="+o.source, "REDIS_URL="+o.toCache, "GORACE=halt_on_error=1")
	in.file = filepath.Join(in.dir, "lanternist.yaml")
	in.write("lanternist.yaml", fmt.Appendf(nil, `source:
  url: ${DATABASE_URL}
  slot: %[1]s
  publication: %[1]s
  tables: [%[2]s]
  batch_bytes: %[9]s
journal: %[3]s
elasticsearch: {url: %[4]q, prefix: %[5]q}
redis: {url: "${REDIS_URL}", prefix: %[6]q}
http: {listen: %[7]q, read_timeout: 60s} # a machine that is overloaded is no wrong answer
projectors: {backoff_max: 1s}
%[8]sviews: [views/*.yaml]
`, in.slot, strings.Join(o.tables, ", "), o.journal, o.toSearch, in.searchPrefix, in.cachePrefix, address, o.more, o.batch))
	for name, text := range o.views {
		in.write("views/"+name+".yaml", text)
		in.views = append(in.views, name)
	}
	return in
}

// natsStream is the name of a journal's stream.
const natsStream = "shop"

// write writes a file of the installation.
func (in *installation) write(name string, text []byte) {
	in.t.Helper()
	file := filepath.Join(in.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		in.t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		in.t.Fatal(err)
	}
}

// run runs a command of the binary to its end and returns its exit code and what it printed.
func (in *installation) run(args ...string) (code int, stdout, stderr string) {
	in.t.Helper()
	path, err := binaryPath()
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(in.t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, path, append(args, "--config", in.file)...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = in.environment, &out, &errs, child()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		in.t.Fatalf("lanternist %s: %v, %v\n%s", strings.Join(args, " "), err, ctx.Err(), errs.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// freeAddress is a loopback address that was free a moment ago. Its port is below the ephemeral range, so that no
// outgoing connection takes it while the daemon is down, and outside of the range of the stack's servers.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no port is free")
	return ""
}
