package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

type initCmd struct {
	URL    string   `required:"" env:"DATABASE_URL" help:"The database to look at. It is not written anywhere: the configuration refers to the environment." placeholder:"URL"`
	Tables []string `default:"public.*" help:"Tables to capture, or all of a schema: schema.*."`
	Dir    string   `default:"." help:"Where to write lanternist.yaml and views/."`
	Force  bool     `help:"Write over files that are there."`
}

// Run looks at a database and writes a configuration that a person goes on from.
func (c *initCmd) Run(a *app) error {
	tables, keys, err := c.look(a.ctx)
	if err != nil {
		return err
	}
	var keyless []string
	tables = slices.DeleteFunc(tables, func(t *row.Schema) bool {
		if len(t.Key) == 0 {
			keyless = append(keyless, t.QualifiedName())
		}
		return len(t.Key) == 0
	})
	if len(tables) == 0 {
		return badInput(fmt.Errorf("no table with a primary key matches %s", strings.Join(c.Tables, ", ")))
	}
	starters := views.Starter(tables, keys)
	files := map[string][]byte{"lanternist.yaml": c.configuration(tables)}
	for _, s := range starters {
		files[filepath.Join("views", s.Name+".yaml")] = s.Text
	}
	if err := c.write(files); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d tables, %d views:\n", len(tables), len(starters))
	for _, s := range starters {
		fmt.Fprintf(a.stdout, "  %s\n", filepath.Join(c.Dir, "views", s.Name+".yaml"))
	}
	for _, name := range keyless {
		fmt.Fprintf(a.stdout, "%s is left out: it has no primary key\n", name)
	}
	fmt.Fprintf(a.stdout, `
Next:
  export DATABASE_URL=…
  lanternist check --config %[1]s
  lanternist run --config %[1]s
`, filepath.Join(c.Dir, "lanternist.yaml"))
	return nil
}

// look reads tables and foreign keys.
func (c *initCmd) look(ctx context.Context) ([]*row.Schema, []views.ForeignKey, error) {
	conn, err := pgx.Connect(ctx, c.URL)
	if err != nil {
		return nil, nil, badInput(fmt.Errorf("connect to the database: %w", err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tables, err := cdc.LoadCatalog(ctx, conn, c.Tables)
	if err != nil {
		return nil, nil, badInput(fmt.Errorf("read tables: %w", err))
	}
	found, err := cdc.ForeignKeys(ctx, conn, c.Tables)
	if err != nil {
		return nil, nil, fmt.Errorf("read foreign keys: %w", err)
	}
	keys := make([]views.ForeignKey, len(found))
	for i, k := range found {
		keys[i] = views.ForeignKey{Table: k.Table, Columns: k.Columns, RefTable: k.References, RefColumns: k.ReferencedColumns}
	}
	return tables, keys, nil
}

func (c *initCmd) write(files map[string][]byte) error {
	var there []string
	for name := range files {
		if _, err := os.Stat(filepath.Join(c.Dir, name)); err == nil {
			there = append(there, filepath.Join(c.Dir, name))
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if len(there) > 0 && !c.Force {
		slices.Sort(there)
		return badInput(fmt.Errorf("%s: there already; write over with --force, or choose another --dir", strings.Join(there, ", ")))
	}
	for name, text := range files {
		path := filepath.Join(c.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c *initCmd) configuration(tables []*row.Schema) []byte {
	var b strings.Builder
	b.WriteString(`# What Lanternist reads, keeps and serves. Secrets are references: ${NAME} from the environment, ${file:/path} from a file.
# Everything that may be set, with what is in force: lanternist config

source:
  url: ${DATABASE_URL}
  tables:
`)
	for _, t := range tables {
		fmt.Fprintf(&b, "    - %s\n", t.QualifiedName())
	}
	b.WriteString(`
# The durable stream of changes. What a projector still needs is never dropped.
journal: {dir: data/journal, retention: {age: 7d, size: 50GiB}}

# Leave out the one that you do not use, and its section in views/*.yaml.
elasticsearch: {url: "http://localhost:9200"}
redis: {url: "redis://localhost:6379"}

# Another address than loopback wants a token: token: ${LANTERNIST_TOKEN}
http: {listen: "127.0.0.1:8080"}

views: [views/*.yaml]
`)
	return []byte(b.String())
}
