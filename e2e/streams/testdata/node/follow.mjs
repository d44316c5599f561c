// Prints the id and the data of every message of a stream, one array a line, and
// ends when EventSource has been told by 204 that nothing will follow.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
source.onmessage = (message) => console.log(JSON.stringify([message.lastEventId, message.data]));
source.onerror = (error) => {
  if (source.readyState === EventSource.CLOSED) process.exitCode = error.code === 204 ? 0 : 1;
};
