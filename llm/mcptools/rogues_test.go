package mcptools_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	floodSize = 100_000
	tooLarge  = 1<<20 + 1
)

// prologues are written to stdout before any message.
var prologues = map[string]func() string{
	"banner": func() string {
		return "Rogue server v1\n[info] listening\n{\"level\":\"info\",\"msg\":\"started\"}\n\n"
	},
	"byte order":     func() string { return "\xef\xbb\xbf" },
	"partial":        func() string { return "Starting… " },
	"open brace":     func() string { return "{ starting\n{\"a\":\n" },
	"very long line": func() string { return strings.Repeat("x", 4<<20) + "\n" },
}

// pages makes a list whose cursor after each page is next of the one before, with
// one tool a page if named.
func pages(named bool, next func(cursor string) string) answers {
	return lists(func(cursor string) string {
		tool := "echo"
		if named && cursor != "" {
			tool += "_" + cursor
		}
		return fmt.Sprintf(`{"tools":[{"name":%q,"inputSchema":{"type":"object"}}],"nextCursor":%q}`, tool, next(cursor))
	})
}

func counted(cursor string) string {
	n, _ := strconv.Atoi(cursor)
	return strconv.Itoa(n + 1)
}

// floods writes many notifications before the response.
func floods(size int, notification string) answers {
	return on("tools/call", func(r request, write func(string)) {
		for range size {
			write(notification)
		}
		proper(r, write)
	})
}

// rogues are the servers that misbehave, by kind.
var rogues = map[string]answers{
	// Lists.
	"same cursor": pages(false, func(string) string { return "a" }),
	"cycle":       pages(true, func(cursor string) string { return map[string]string{"": "a", "a": "b", "b": "a"}[cursor] }),
	"endless cursors": lists(func(cursor string) string {
		return `{"tools":` + firstPage(cursor) + `,"nextCursor":"` + counted(cursor) + `"}`
	}),
	"endless tools": pages(true, counted),
	"repeated page": pages(false, counted),
	"failing page": on("tools/list", func(r request, write func(string)) {
		if r.Params.Cursor == "" {
			write(r.result(`{"tools":` + firstPage("") + `,"nextCursor":"a"}`))
			return
		}
		write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"bad cursor"}}`, r.ID))
	}),
	"500 tools":  lists(func(string) string { return `{"tools":[` + manyTools(0, 500) + `]}` }),
	"1200 tools": lists(func(string) string { return `{"tools":[` + manyTools(0, 1200) + `]}` }),
	"500 tools in pages": lists(func(cursor string) string {
		n, _ := strconv.Atoi(cursor)
		if n == 450 {
			return `{"tools":[` + manyTools(450, 500) + `],"nextCursor":null}`
		}
		return fmt.Sprintf(`{"tools":[%s],"nextCursor":%d}`, manyTools(n, n+50), n+50)
	}),
	"odd tools": lists(func(string) string {
		return `{"_meta":"x","tools":[
			{"name":"no_schema"},{"name":"null_schema","inputSchema":null,"description":null},
			{"name":"true_schema","inputSchema":true},{"name":"empty_schema","inputSchema":{}},
			{"name":"no_properties","inputSchema":{"type":"object","properties":null,"required":null}},
			{"name":"no_type","inputSchema":{"properties":{"q":{"type":"string"}}},"description":7,"icons":"x"},
			{"name":"titled","title":"A title"},{"name":"annotated","annotations":{"title":"Annotated"}},
			{"name":""},{"name":null},{"name":9},{},null,"x",
			{"name":"a.b"},{"name":"a/b"},{"name":"no_type"},
			{"name":"` + strings.Repeat("n", 65) + `"},
			{"name":"echo","description":"Echoes."}]}`
	}),

	// Output.
	"banner":         proper,
	"byte order":     proper,
	"partial":        proper,
	"open brace":     proper,
	"very long line": proper,
	"log lines": func(r request, write func(string)) {
		write("[debug] got " + r.Method)
		write(`{"level":"debug"}`)
		write(`"text"`)
		write("[1,2,3]")
		proper(r, func(raw string) { write(raw); write("[debug] done") })
	},
	"indented": func(r request, write func(string)) {
		proper(r, func(raw string) {
			write(strings.NewReplacer(`{"jsonrpc"`, "{\n  \"jsonrpc\"", `,"id":`, ",\n  \"id\":", `,"result":`, ",\n  \"result\":").Replace(raw))
		})
	},
	"batch": func(r request, write func(string)) { proper(r, func(raw string) { write("[" + raw + "]") }) },
	"no version": func(r request, write func(string)) {
		proper(r, func(raw string) { write(strings.Replace(raw, `"jsonrpc":"2.0",`, "", 1)) })
	},
	"id as text": func(r request, write func(string)) {
		proper(r, func(raw string) { write(strings.Replace(raw, `"id":`+string(r.ID), `"id":"`+string(r.ID)+`"`, 1)) })
	},
	"id null before": func(r request, write func(string)) {
		write(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`)
		proper(r, write)
	},
	"strange messages": func(r request, write func(string)) {
		write(`{"jsonrpc":"2.0","id":99999,"result":{}}`)
		write(`{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}`)
		write(`{"jsonrpc":"2.0","id":"r1","method":"roots/list"}`)
		write(`{"jsonrpc":"2.0","method":"notifications/nobody_heard_of"}`)
		proper(r, write)
	},
	"list changed": func(r request, write func(string)) {
		write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		proper(r, write)
	},

	// Floods.
	"progress flood": floods(floodSize, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1,"message":"`+strings.Repeat("p", 100)+`"}}`),
	"log flood":      floods(floodSize/10, `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"`+strings.Repeat("l", 100)+`"}}`),
	"ping flood":     floods(floodSize/10, `{"jsonrpc":"2.0","id":"p","method":"ping"}`),
	"endless flood": on("tools/call", func(_ request, write func(string)) {
		for range 50 * floodSize { // until the client disconnects
			write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
		}
	}),
	"stderr flood": on("tools/call", func(r request, write func(string)) {
		for range 1000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("e", 10<<10))
		}
		proper(r, write)
	}),
	"huge result": on("tools/call", func(r request, write func(string)) {
		if string(r.Params.Arguments) == `{"huge":true}` {
			write(r.result(`{"content":[{"type":"text","text":"` + strings.Repeat("h", tooLarge) + `"}]}`))
			return
		}
		proper(r, write)
	}),
	"huge blob": on("tools/call", func(r request, write func(string)) {
		write(r.result(`{"content":[{"type":"image","mimeType":"image/png","data":"` + strings.Repeat("QUFB", 1<<17) + `"}]}`))
	}),

	// Calls.
	"deaf": proper, // reads nothing after the list
	"wrong id": on("tools/call", func(r request, write func(string)) {
		write(strings.Replace(r.result(`{"content":[]}`), `"id":`, `"id":1000`, 1))
	}),
	"no answer": on("tools/call", func(request, func(string)) {}),
	"error as text": on("tools/call", func(r request, write func(string)) {
		write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":"E42","message":"not today"}}`, r.ID))
	}),
	"old version": on("initialize", func(r request, write func(string)) {
		write(r.result(`{"protocolVersion":"1999-01-01","capabilities":{},"serverInfo":{"name":"rogue","version":"1"}}`))
	}),
	"no initialize": on("initialize", func(request, func(string)) {}),
}

func firstPage(cursor string) string {
	if cursor != "" {
		return `[]`
	}
	return `[{"name":"echo","inputSchema":{"type":"object"}}]`
}

func manyTools(from, to int) string {
	var tools []string
	for i := from; i < to; i++ {
		tools = append(tools, fmt.Sprintf(`{"name":"tool_%d","inputSchema":{"type":"object"}}`, i))
	}
	return strings.Join(tools, ",")
}
