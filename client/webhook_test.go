package client_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/client"
)

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	other  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	id     = "f7d2c1a8-0000-4000-8000-000000000001"
	body   = `{"run_key":"` + id + `","status":"completed","status_detail":null,"result_text":"Done","error_message":null,` +
		`"conversation_id":42,"events_url":"https://h/conversations/42/agent-events?run_id=17","completed_at":"2026-04-15T10:01:23+00:00"}`
)

// sign is the scheme written a second time.
func sign(t testing.TB, secret, id, stamp, body string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%s.%s.%s", id, stamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func headers(id, stamp, signature string) http.Header {
	h := make(http.Header)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", signature)
	return h
}

func verifier(t testing.TB, secrets ...string) *client.Verifier {
	v, err := client.NewVerifier(secrets, nil)
	require.NoError(t, err)
	return v
}

// The example of the standard's own libraries.
func TestVerifyKnownSignature(t *testing.T) {
	t.Parallel()
	v, err := client.NewVerifier([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, &client.VerifierOptions{Tolerance: 200 * 365 * 24 * time.Hour})
	require.NoError(t, err)
	h := headers("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	require.NoError(t, v.Verify(h, []byte(`{"test": 2432232314}`)))
	require.ErrorIs(t, v.Verify(h, []byte(`{"test": 2432232315}`)), client.ErrSignature)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	good := sign(t, secret, id, now, body)
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   error
	}{
		"good":                       {headers(id, now, good), body, nil},
		"one of several":             {headers(id, now, "v1a,xx v2,"+good[3:]+" "+sign(t, other, id, now, body)+" "+good), body, nil},
		"another secret":             {headers(id, now, sign(t, other, id, now, body)), body, client.ErrSignature},
		"another body":               {headers(id, now, good), body + " ", client.ErrSignature},
		"another id":                 {headers("x"+id, now, good), body, client.ErrSignature},
		"another time":               {headers(id, now+"0", good), body, client.ErrSignature},
		"another version":            {headers(id, now, "v2"+good[2:]), body, client.ErrSignature},
		"without a version":          {headers(id, now, good[3:]), body, client.ErrSignature},
		"cut off":                    {headers(id, now, good[:len(good)-4]), body, client.ErrSignature},
		"not base64":                 {headers(id, now, "v1,"+strings.Repeat("*", 44)), body, client.ErrSignature},
		"empty signature":            {headers(id, now, "v1,"), body, client.ErrSignature},
		"no signature":               {headers(id, now, ""), body, client.ErrSignature},
		"no id":                      {headers("", now, sign(t, secret, "", now, body)), body, client.ErrSignature},
		"no time":                    {headers(id, "", sign(t, secret, id, "", body)), body, client.ErrSignature},
		"no headers":                 {nil, body, client.ErrSignature},
		"time with a plus":           {headers(id, "+"+now, sign(t, secret, id, "+"+now, body)), body, client.ErrSignature},
		"time with a zero in front":  {headers(id, "0"+now, sign(t, secret, id, "0"+now, body)), body, client.ErrSignature},
		"time that is not a number":  {headers(id, "now", sign(t, secret, id, "now", body)), body, client.ErrSignature},
		"time beyond 64 bits":        {headers(id, now+now, sign(t, secret, id, now+now, body)), body, client.ErrSignature},
		"the last time of 64 bits":   {headers(id, "9223372036854775807", sign(t, secret, id, "9223372036854775807", body)), body, client.ErrStale},
		"the first time of 64 bits":  {headers(id, "-9223372036854775808", sign(t, secret, id, "-9223372036854775808", body)), body, client.ErrStale},
		"a time that is long passed": {headers(id, "1614265330", sign(t, secret, id, "1614265330", body)), body, client.ErrStale},
		"two signature headers": {http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {now}, "Webhook-Signature": {good, good}},
			body, client.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := verifier(t, secret).Verify(c.header, []byte(c.body))
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestVerifyWhileSecretsChangeOver(t *testing.T) {
	t.Parallel()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	one, two := sign(t, secret, id, now, body), sign(t, other, id, now, body)
	both := verifier(t, secret, other)
	for _, signatures := range []string{one, two, one + " " + two, two + " " + one} {
		require.NoError(t, both.Verify(headers(id, now, signatures), []byte(body)))
	}
	require.NoError(t, verifier(t, secret).Verify(headers(id, now, two+" "+one), []byte(body)))
	require.ErrorIs(t, verifier(t, secret).Verify(headers(id, now, two), []byte(body)), client.ErrSignature)
}

func TestVerifyTolerance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		at := func(d time.Duration) error {
			stamp := strconv.FormatInt(time.Now().Add(d).Unix(), 10)
			return verifier(t, secret).Verify(headers(id, stamp, sign(t, secret, id, stamp, body)), []byte(body))
		}
		require.NoError(t, at(-client.DefaultTolerance))
		require.NoError(t, at(client.DefaultTolerance))
		require.ErrorIs(t, at(-client.DefaultTolerance-time.Second), client.ErrStale)
		require.ErrorIs(t, at(client.DefaultTolerance+time.Second), client.ErrStale)

		narrow, err := client.NewVerifier([]string{secret}, &client.VerifierOptions{Tolerance: time.Second})
		require.NoError(t, err)
		stamp := strconv.FormatInt(time.Now().Unix()-2, 10)
		require.ErrorIs(t, narrow.Verify(headers(id, stamp, sign(t, secret, id, stamp, body)), []byte(body)), client.ErrStale)
	})
}

func TestNewVerifier_invalidArguments_returnsError(t *testing.T) {
	t.Parallel()
	_, err := client.NewVerifier(nil, nil)
	require.Error(t, err)
	_, err = client.NewVerifier([]string{secret}, &client.VerifierOptions{Tolerance: -1})
	require.Error(t, err)
	for _, bad := range []string{
		"", "whsec_", secret[6:], "WHSEC_" + secret[6:], "whsk_" + secret[6:], secret + "=", secret + "\n", " " + secret,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)), "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)),
		"whsec_" + base64.RawStdEncoding.EncodeToString(make([]byte, 25)), "whsec_" + strings.Repeat("_", 32),
	} {
		_, err := client.NewVerifier([]string{secret, bad}, nil)
		require.Error(t, err, "%q", bad)
		if len(bad) > 12 {
			require.NotContains(t, err.Error(), bad[8:])
		}
	}
}

func TestReceive(t *testing.T) {
	t.Parallel()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	receive := func(header http.Header, body []byte) (*client.Callback, error) {
		r := httptest.NewRequest("POST", "/hook", bytes.NewReader(body))
		r.Header = header
		return verifier(t, secret).Receive(httptest.NewRecorder(), r)
	}
	signed := func(body string) http.Header { return headers(id, now, sign(t, secret, id, now, body)) }

	got, err := receive(signed(body), []byte(body))
	require.NoError(t, err)
	done := "Done"
	require.Equal(t, &client.Callback{
		RunKey: id, Status: "completed", ResultText: &done, ConversationID: 42,
		EventsURL: "https://h/conversations/42/agent-events?run_id=17", CompletedAt: got.CompletedAt,
	}, got)
	require.True(t, got.CompletedAt.Equal(time.Date(2026, 4, 15, 10, 1, 23, 0, time.UTC)))

	_, err = receive(headers(id, now, sign(t, other, id, now, body)), []byte(body))
	require.ErrorIs(t, err, client.ErrSignature)
	for _, text := range []string{"", "null", "[]", "{}", `{"run_key": 1}`, `{"run_key": "x"}`, body[:50]} {
		_, err := receive(signed(text), []byte(text))
		require.Error(t, err, text)
		require.NotErrorIs(t, err, client.ErrSignature, text)
	}

	big := `{"run_key":"x","status":"completed","result_text":"` + strings.Repeat("x", client.MaxCallback) + `"}`
	_, err = receive(signed(big), []byte(big))
	var tooLarge *http.MaxBytesError
	require.True(t, errors.As(err, &tooLarge), "%v", err)
}

// FuzzVerify checks that a body is accepted only with a signature of the scheme,
// for any headers.
func FuzzVerify(f *testing.F) {
	f.Add(id, "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", []byte(body))
	f.Add("", "", "", []byte(nil))
	f.Add("a.b", "-1", "v1, v1,AA== v1,", []byte("x"))
	f.Add(id, "0", sign(f, secret, id, "0", "x")+" v1", []byte("x"))
	v, err := client.NewVerifier([]string{secret}, &client.VerifierOptions{Tolerance: 1<<63 - 1})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, id, stamp, signatures string, body []byte) {
		h := headers(id, stamp, signatures)
		fits := false
		for _, one := range strings.Split(signatures, " ") {
			fits = fits || one == sign(t, secret, id, stamp, string(body))
		}
		err := v.Verify(h, body)
		if err == nil {
			require.True(t, fits)
		}
		_, number := strconv.ParseInt(stamp, 10, 64)
		if fits && id != "" && number == nil && !strings.HasPrefix(stamp, "+") && !strings.HasPrefix(stamp, "-") && (stamp == "0" || stamp[0] != '0') {
			require.NotErrorIs(t, err, client.ErrSignature)
		}
	})
}
