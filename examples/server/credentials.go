package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// credentials are the API key of assistant 1 and the password of the console.
type credentials struct {
	Key      string `json:"key"`
	Password string `json:"password"`
}

func newCredentials() credentials {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	return credentials{Key: hex.EncodeToString(key[:]), Password: rand.Text()}
}

// fill sets the key and the password that the command line does not have,
// from the file beside the database. The first start creates the file.
func (c *credentials) fill(file string) error {
	if c.Key != "" && c.Password != "" {
		return nil
	}
	kept, err := keepCredentials(file)
	if err != nil {
		return err
	}
	if c.Key == "" {
		c.Key = kept.Key
	}
	if c.Password == "" {
		c.Password = kept.Password
	}
	return nil
}

// keepCredentials returns the credentials of the file, and creates it if it does not
// exist. Without a file they last as long as the process. Of servers that start at
// the same time, one creates the file and all use it.
func keepCredentials(file string) (credentials, error) {
	fresh := newCredentials()
	if file == "" {
		return fresh, nil
	}
	kept, err := readCredentials(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	err = writeCredentials(file, fresh, os.Link) // fails if the file exists
	if errors.Is(err, fs.ErrExist) {
		return readCredentials(file)
	}
	return fresh, err
}

func readCredentials(file string) (c credentials, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("read credentials: %w", err)
	}
	if json.Unmarshal(content, &c) != nil || !keyShape.MatchString(c.Key) || c.Password == "" {
		return credentials{}, fmt.Errorf("credentials file %s is damaged: "+
			`it must be {"key": "64 lowercase hex characters", "password": "…"}. Repair it, or delete it to get a new key and password`, file)
	}
	return c, nil
}

// writeCredentials writes a temporary file and puts it in its place, so that a reader
// never sees a part of it.
func writeCredentials(file string, c credentials, place func(from, to string) error) error {
	content, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // with mode 0600
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(append(content, '\n'))
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = place(temporary.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
