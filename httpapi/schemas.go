package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Schemas is what the API needs of a daemon whose tables may change under it.
type Schemas interface {
	// TableSchemas are the captured tables, in order of their names.
	TableSchemas() []TableSchema
	// Acknowledge has the views of a table go on by its newest definition. It returns the projectors that were paused; the
	// error says which views cannot go on, and why.
	Acknowledge(ctx context.Context, table string) ([]string, error)
}

// TableSchema is a captured table and every version of its definition.
type TableSchema struct {
	Table    string          `json:"table"`
	OID      uint32          `json:"oid"`
	Version  int             `json:"version" doc:"Of its event types now."`
	Columns  int             `json:"columns" doc:"How many it has now."`
	Gone     bool            `json:"gone,omitempty" doc:"The source does not have it any more."`
	Problem  string          `json:"problem,omitempty" doc:"Why the table is not followed."`
	Paused   []string        `json:"paused,omitempty" doc:"Projectors that wait for an acknowledgement or for a corrected view."`
	Versions []SchemaVersion `json:"versions" doc:"In the order in which they came."`
}

// SchemaVersion is one definition of a table.
type SchemaVersion struct {
	ID      uint32         `json:"id"`
	Version int            `json:"version"`
	Table   string         `json:"table" doc:"Its name then."`
	Columns []SchemaColumn `json:"columns"`
	Key     []string       `json:"key"`
	Changes []string       `json:"changes,omitempty" doc:"What is different from the one before."`
}

// SchemaColumn is a column of a definition.
type SchemaColumn struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	NotNull bool   `json:"not_null,omitempty"`
}

type schemasOutput struct {
	Body struct {
		Tables []TableSchema `json:"tables" doc:"Ordered by name."`
	}
}

type schemaInput struct {
	Table string `path:"table" doc:"public.orders, or orders."`
}

type schemaOutput struct {
	Body TableSchema
}

type acknowledgeOutput struct {
	Body struct {
		Projectors []string `json:"projectors" doc:"Those that were paused and go on."`
	}
}

func (s *Server) registerSchemas(api huma.API) {
	huma.Register(api, get("list-schemas", "/v1/schemas", "schemas", "List the captured tables with the versions of their definitions", 501),
		func(context.Context, *struct{}) (*schemasOutput, error) {
			if s.schemas == nil {
				return nil, problem(http.StatusNotImplemented, "this server does not know of tables")
			}
			out := &schemasOutput{}
			out.Body.Tables = s.schemas.TableSchemas()
			return out, nil
		})
	huma.Register(api, get("get-schema", "/v1/schemas/{table}", "schemas", "Read one table's versions", 404, 501),
		func(_ context.Context, in *schemaInput) (*schemaOutput, error) {
			t, err := s.tableSchema(in.Table)
			return &schemaOutput{Body: t}, err
		})
	ack := get("acknowledge-schema", "/v1/schemas/{table}/ack", "schemas", "Have the views of a changed table go on by its newest definition", 404, 409, 501)
	ack.Method = http.MethodPost
	huma.Register(api, ack, func(ctx context.Context, in *schemaInput) (*acknowledgeOutput, error) {
		t, err := s.tableSchema(in.Table)
		if err != nil {
			return nil, err
		}
		out := &acknowledgeOutput{}
		// It goes on when the client goes away: views may be built anew.
		if out.Body.Projectors, err = s.schemas.Acknowledge(context.WithoutCancel(ctx), t.Table); err != nil {
			return nil, problem(http.StatusConflict, "%v", err)
		}
		if out.Body.Projectors == nil {
			out.Body.Projectors = []string{}
		}
		return out, nil
	})
}

func (s *Server) tableSchema(name string) (TableSchema, error) {
	if s.schemas == nil {
		return TableSchema{}, problem(http.StatusNotImplemented, "this server does not know of tables")
	}
	var names []string
	for _, t := range s.schemas.TableSchemas() {
		if t.Table == name || t.Table == "public."+name {
			return t, nil
		}
		names = append(names, t.Table)
	}
	return TableSchema{}, problem(http.StatusNotFound, "table %q is not captured; there are %q", name, names)
}
