package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
)

// page is what a template gets to see.
type page struct {
	Title  string
	Script string // the module that brings the page to life; "": none
	Nav    string // the entry of the main navigation that is lit
	Tab    string // the assistant's tab that is lit; "": no tabs
	Root   string // the mount, relative to the page
	Menu   []menuGroup
	Bare   bool // no sidebar

	SignIn, SignOut string

	AssistantID, AssistantName string
	SearchTexts                bool   // messages and metadata are searched
	Chosen                     string // assistant to which a list over all assistants is limited
	TriggerURL                 string
	TaskID                     int64 // 0: a new one

	Run          *webtrigger.Run
	KeyName      string // of the API key that triggered the run
	Input        *input
	Conversation *webtrigger.Conversation
	Metadata     string // of the conversation, as those of an input

	// Of the page of a problem.
	Status    int
	RequestID string
}

// input is what a run was asked to do, to be read by people.
type input struct {
	Message, Subject  string
	Context, Metadata string // indented JSON with every lexeme as it was sent; "": none
}

// menuGroup is one group of the sidebar.
type menuGroup struct {
	Title string // "": none
	Links []menuLink
}

type menuLink struct{ Path, Nav, Text string }

// menu has the places of the original product, under its names.
var menu = []menuGroup{
	{"", []menuLink{{"overview", "overview", "Overview"}, {"runs", "runs", "Runs"}, {"conversations", "conversations", "Conversations"},
		{"waiting", "waiting", "Waiting for input"}, {"callbacks", "callbacks", "Callbacks"}, {"tasks", "tasks", "Tasks"}}},
	{"", []menuLink{{"", "assistants", "Assistants"}}},
	{"Admin", []menuLink{{"keys", "keys", "API Keys"}, {"signing-secrets", "signing-secrets", "Signing secrets"}, {"audit", "audit", "Audit log"},
		{"data", "data", "Data and retention"}}},
}

func (c *Console) routes() {
	h := c.api
	c.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { c.fail(w, r, webtrigger.ErrNotFound) })
	c.mux.HandleFunc("/static/{file}", c.serveAsset)
	show(c, "/{$}", webtrigger.ActionReadAssistants, everything, c.assistantsPage)
	show(c, "/assistants/{id}", webtrigger.ActionReadChannel, h.assistant, c.assistantPage("channel", "Channels"))
	show(c, "/assistants/{id}/keys", webtrigger.ActionReadKeys, h.assistant, c.assistantPage("keys", "Keys"))
	show(c, "/assistants/{id}/tasks", webtrigger.ActionReadTaskDefinitions, h.assistant, c.assistantPage("tasks", "Tasks"))
	show(c, "/assistants/{id}/tasks/new", webtrigger.ActionWriteTaskDefinitions, h.assistant, c.newTaskPage)
	show(c, "/tasks", webtrigger.ActionReadTaskDefinitions, assistantAsked, c.listPage("tasks", "Tasks"))
	show(c, "/tasks/{id}", webtrigger.ActionReadTaskDefinitions, h.task, c.taskPage)
	show(c, "/overview", webtrigger.ActionReadStats, everything, c.adminPage("overview", "Overview"))
	show(c, "/audit", webtrigger.ActionReadAudit, everything, c.adminPage("audit", "Audit log"))
	show(c, "/data", webtrigger.ActionReadData, everything, c.adminPage("data", "Data and retention"))
	show(c, "/keys", webtrigger.ActionReadKeys, assistantAsked, c.listPage("keys", "API Keys"))
	show(c, "/assistants/{id}/test", webtrigger.ActionWriteRuns, h.assistant, c.assistantPage("test", "Test"))
	show(c, "/runs", webtrigger.ActionReadRuns, assistantAsked, c.listPage("runs", "Runs"))
	show(c, "/waiting", webtrigger.ActionReadRuns, assistantAsked, c.listPage("waiting", "Waiting for input"))
	show(c, "/runs/{id}", webtrigger.ActionReadRuns, h.run, c.runPage)
	show(c, "/signing-secrets", webtrigger.ActionReadSigningSecrets, assistantAsked, c.listPage("signing-secrets", "Signing secrets"))
	show(c, "/callbacks", webtrigger.ActionReadDeliveries, assistantAsked, c.listPage("callbacks", "Callbacks"))
	show(c, "/conversations", webtrigger.ActionReadConversations, assistantAsked, c.listPage("conversations", "Conversations"))
	show(c, "/conversations/{id}", webtrigger.ActionReadConversations, h.conversation, c.conversationPage)
}

// show puts a page at a path, behind the guard of the API.
func show[T any](c *Console, pattern string, action webtrigger.Action, find finder[T],
	make func(r *http.Request, about T) (name string, p *page, err error)) {
	serve := inTime(guarded(c.api, action, find, func(w http.ResponseWriter, r *http.Request, about T) error {
		name, p, err := make(r, about)
		if err != nil {
			return err
		}
		c.write(w, r, http.StatusOK, name, p)
		return nil
	}))
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := serve(w, r); err != nil {
			c.fail(w, r, err)
		}
	})
}

// write renders a page. A template that fails leaves nothing half written.
func (c *Console) write(w http.ResponseWriter, r *http.Request, status int, name string, p *page) {
	p.Root, p.SignIn, p.SignOut = root(r.URL.Path), c.opts.SignIn, c.opts.SignOut
	p.Menu, p.Bare = menu, c.opts.NoSidebar
	var out bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&out, "layout", p); err != nil {
		bridge.WriteError(c.api.svc, w, r, fmt.Errorf("render page %s: %w", name, err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func (c *Console) assistantsPage(*http.Request, struct{}) (string, *page, error) {
	return "assistants", &page{Title: "Assistants", Nav: "assistants", Script: "assistants.js"}, nil
}

// assistantPage is one of the pages about an assistant, with its tabs.
func (c *Console) assistantPage(tab, title string) func(r *http.Request, id string) (string, *page, error) {
	return func(r *http.Request, id string) (string, *page, error) {
		p := c.aboutAssistant(r, id, tab)
		p.Title, p.Script = title, tab+".js"
		return tab, p, nil
	}
}

func (c *Console) aboutAssistant(r *http.Request, id, tab string) *page {
	p := &page{Nav: "assistants", Tab: tab, AssistantID: id, TriggerURL: c.api.svc.TriggerURL(r, id)}
	if list := c.api.opts.Assistants; list != nil {
		// Without a name the id stands for it.
		assistants, _ := list(r.Context())
		for _, a := range assistants {
			if a.ID == id {
				p.AssistantName = a.Name
			}
		}
	}
	return p
}

func (c *Console) newTaskPage(r *http.Request, id string) (string, *page, error) {
	p := c.aboutAssistant(r, id, "tasks")
	p.Title, p.Script = "New task", "task.js"
	return "task", p, nil
}

func (c *Console) taskPage(r *http.Request, id int64) (string, *page, error) {
	task, err := c.api.svc.TaskDefinition(r.Context(), id)
	if err != nil {
		return "", nil, err
	}
	p := c.aboutAssistant(r, task.AssistantID, "tasks")
	p.Title, p.Script, p.TaskID = task.Name, "task.js", task.ID
	return "task", p, nil
}

// adminPage is a page that is about no assistant.
func (c *Console) adminPage(name, title string) func(*http.Request, struct{}) (string, *page, error) {
	return func(*http.Request, struct{}) (string, *page, error) {
		return name, &page{Title: title, Nav: name, Script: name + ".js"}, nil
	}
}

// anyAssistant stands for the id in the trigger URL of a page over all assistants.
const anyAssistant = "ASSISTANT"

// listPage is a page over all assistants. The list itself reports what is wrong with
// the query.
func (c *Console) listPage(name, title string) func(*http.Request, *query) (string, *page, error) {
	return func(r *http.Request, q *query) (string, *page, error) {
		return name, &page{Title: title, Nav: name, Script: name + ".js", Chosen: q.values.Get("assistant_id"), SearchTexts: c.api.svc.SearchesTexts(),
			TriggerURL: c.api.svc.TriggerURL(r, anyAssistant)}, nil
	}
}

func (c *Console) runPage(r *http.Request, id int64) (string, *page, error) {
	run, err := c.api.svc.RunByID(r.Context(), id)
	if err != nil {
		return "", nil, err
	}
	stored, err := c.api.svc.RunInput(r.Context(), run.ID)
	if err != nil {
		return "", nil, err
	}
	labels, err := c.api.svc.RunLabels(r.Context(), []int64{run.ID})
	if err != nil {
		return "", nil, err
	}
	return "run", &page{
		Title: fmt.Sprintf("Run %d", run.ID), Nav: "runs", Script: "run.js", AssistantID: run.AssistantID, Run: &run, KeyName: labels[run.ID].KeyName,
		TriggerURL: c.api.svc.TriggerURL(r, run.AssistantID),
		Input:      &input{stored.Message, stored.Subject, indent(stored.Context), indent(stored.Metadata)},
	}, nil
}

func (c *Console) conversationPage(r *http.Request, id int64) (string, *page, error) {
	conversation, err := c.api.svc.Conversation(r.Context(), id)
	if err != nil {
		return "", nil, err
	}
	return "conversation", &page{
		Title: fmt.Sprintf("Conversation %d", id), Nav: "conversations", Script: "conversation.js", AssistantID: conversation.AssistantID,
		Conversation: &conversation, Metadata: indent(conversation.Metadata),
	}, nil
}

// indent spreads JSON over lines and leaves its lexemes alone.
func indent(raw json.RawMessage) string {
	var out bytes.Buffer
	if len(raw) == 0 || json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}
