package bunstore

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

//go:embed migrations
var migrationFiles embed.FS

// migration is a version of the tables. Its files are named
//
//	<name>_<comment>.tx.up.sql, <name>_<comment>.tx.down.sql
//
// and run in a transaction. Without .tx each statement is on its own, as CREATE INDEX
// CONCURRENTLY requires. A line "--bun:split" separates statements.
type migration struct {
	name     string // digits; the order
	up, down script
}

type script struct {
	statements []string
	inTx       bool
}

var migrationFile = regexp.MustCompile(`^(\d{14})_\w+?(\.tx)?\.(up|down)\.sql$`)

// migrations returns the migrations of the dialect by name.
func (s *Store) migrations() ([]migration, error) {
	folder := "migrations/sqlite"
	if s.postgres {
		folder = "migrations/postgres"
	}
	byName := make(map[string]*migration)
	for _, files := range append([]fs.FS{migrationFiles}, s.moreMigrations...) {
		entries, err := fs.ReadDir(files, folder)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			part := migrationFile.FindStringSubmatch(entry.Name())
			if part == nil {
				return nil, fmt.Errorf("%s is not the name of a migration", entry.Name())
			}
			text, err := fs.ReadFile(files, folder+"/"+entry.Name())
			if err != nil {
				return nil, err
			}
			m := byName[part[1]]
			if m == nil {
				m = &migration{name: part[1]}
				byName[part[1]] = m
			}
			sc := script{statements: strings.Split(s.named(string(text)), "\n--bun:split\n"), inTx: part[2] != ""}
			if part[3] == "up" {
				m.up = sc
			} else {
				m.down = sc
			}
		}
	}
	var list []migration
	for _, m := range byName {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b migration) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// named fills in the names of tables and indexes.
func (s *Store) named(text string) string {
	return strings.NewReplacer("{{.Prefix}}", s.tablePrefix(), "{{.Index}}", s.opts.TablePrefix).Replace(text)
}
