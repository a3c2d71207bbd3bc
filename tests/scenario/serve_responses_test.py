#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/v1/responses of `cohort serve`: items whole and as events, what is stored and gone on from,
the background, and the bounds of what is kept."""
import contextlib
import json
import re
import threading
import unittest

from served import CHAT_TEMPLATE, CHATS, Server, metrics, named_events

RESPONSES = "/v1/responses"
# Members of a response in the order in which vLLM 0.32 writes them (responses/protocol.py).
MEMBERS = ("id created_at incomplete_details instructions metadata model object output parallel_tool_calls temperature "
           "tool_choice tools top_p background max_output_tokens max_tool_calls previous_response_id prompt reasoning "
           "service_tier status text top_logprobs truncation usage user presence_penalty frequency_penalty "
           "kv_transfer_params ec_transfer_params input_messages output_messages").split()
TOOL = {"type": "function", "name": "go", "description": "Goes.", "strict": True,
        "parameters": {"type": "object", "required": ["at"], "additionalProperties": False,
                       "properties": {"at": {"enum": ["here", "there"]}}}}
GREEDY = {"temperature": 0, "max_output_tokens": 9}
ENDLESS = {"input": "a b", "max_output_tokens": 1900, "ignore_eos": True}
TWO = ("--tensor-parallel-size", "2")  # ranks are processes: they can be frozen
IDS = re.compile(r'"(resp|msg|rs|fc|ctc|chatcmpl-tool)[_-][0-9a-f]+"')


def nameless(value):
    return IDS.sub('"id"', json.dumps(value))


class Responses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE,
                            "--enable-auto-tool-choice", "--tool-call-parser", "hermes")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def ask(self, method="POST", path=RESPONSES, status=200, server=None, **body):
        found, _, text = (server or self.server).ask(method, path, body or None)
        self.assertEqual(found, status, text)
        return json.loads(text)

    def stream(self, **body):
        status, headers, text = self.server.ask("POST", RESPONSES, body | {"stream": True})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream; charset=utf-8"), text)
        return named_events(text)

    def test_a_response_says_what_a_chat_does(self):
        answer = self.ask(input="a b", instructions="c", **GREEDY)
        chat = json.loads(self.server.ask("POST", CHATS, {
            "messages": [{"role": "system", "content": "c"}, {"role": "user", "content": "a b"}],
            "temperature": 0, "max_tokens": 9})[2])
        self.assertEqual(nameless(answer["output"]), nameless([{
            "id": "msg_0", "content": [{"annotations": [], "text": chat["choices"][0]["message"]["content"],
                                        "type": "output_text", "logprobs": None}],
            "role": "assistant", "status": "completed", "type": "message", "phase": None}]))
        self.assertEqual(list(answer), MEMBERS)
        self.assertEqual((answer["status"], answer["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        self.assertEqual((answer["model"], answer["instructions"], answer["tool_choice"], answer["tools"]),
                         ("tiny", "c", "none", []))
        usage = answer["usage"]
        self.assertEqual((usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]),
                         tuple(chat["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")))

    def test_a_stream_comes_to_what_is_answered_whole(self):
        called = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
        for more, kinds in ((GREEDY, ["message"]), ({"structured_outputs": {"choice": ["a b"]}}, ["message"]),
                            ({"temperature": 0} | called, ["function_call"])):
            body = {"input": "a b"} | more
            found = self.stream(**body)
            types = [event["type"].removeprefix("response.") for event in found]
            self.assertEqual([event["sequence_number"] for event in found], list(range(len(found))))
            self.assertEqual(types[:3] + types[-2:], ["created", "in_progress", "output_item.added",
                                                      "output_item.done", "completed"], types)
            whole, last = self.ask(**body), found[-1]["response"]
            self.assertEqual([item["type"] for item in whole["output"]], kinds)
            whole["created_at"] = last["created_at"]
            whole["usage"]["input_tokens_details"] = last["usage"]["input_tokens_details"]  # the second is cached
            item, delta = found[-2]["item"], "".join(event.get("delta", "") for event in found)
            self.assertEqual(delta, item.get("arguments") or item["content"][0]["text"])
            self.assertEqual(item, last["output"][0])
            for one in (whole, last):  # spelt by json.dumps where they are whole, as in vLLM
                if "arguments" in one["output"][0]:
                    one["output"][0]["arguments"] = json.loads(one["output"][0]["arguments"])
            self.assertEqual(nameless(last), nameless(whole))
            self.assertEqual({event["item_id"] for event in found if "item_id" in event}, {item["id"]})

    def test_thoughts_are_an_item(self):
        with Server("--chat-template", CHAT_TEMPLATE, "--reasoning-parser", "qwen3") as server:
            answer = self.ask(server=server, input="a b", **GREEDY)
            status, _, text = server.ask("POST", RESPONSES, {"input": "a b", "stream": True} | GREEDY)
            chat = json.loads(server.ask("POST", CHATS, {"messages": [{"role": "user", "content": "a b"}],
                                                         "temperature": 0, "max_tokens": 9})[2])
            thoughts = chat["choices"][0]["message"]["reasoning"]  # it writes no </think>: all of it is
            self.assertEqual([item["type"] for item in answer["output"]], ["reasoning"])
            self.assertEqual(answer["output"][0]["content"], [{"text": thoughts, "type": "reasoning_text"}])
            self.assertEqual(answer["usage"]["output_tokens_details"]["reasoning_tokens"],
                             chat["usage"]["completion_tokens_details"]["reasoning_tokens"])
            self.assertEqual(status, 200)
            types = list(dict.fromkeys(event["type"].removeprefix("response.") for event in named_events(text)))
            self.assertEqual(types, ["created", "in_progress", "output_item.added", "content_part.added",
                                     "reasoning_text.delta", "reasoning_text.done", "content_part.done",
                                     "output_item.done", "completed"])
            hidden = self.ask(server=server, input="a b", include_reasoning=False, **GREEDY)
            self.assertEqual(hidden["output"], [])
            self.assertEqual(server.stop(), 0)

    def test_a_call_is_told_in_order(self):
        types = []
        for event in self.stream(input="a", tools=[TOOL], tool_choice={"type": "function", "name": "go"}, temperature=0):
            if event["type"] not in types:
                types.append(event["type"])
        self.assertEqual([one.removeprefix("response.") for one in types], [
            "created", "in_progress", "output_item.added", "function_call_arguments.delta",
            "function_call_arguments.done", "output_item.done", "completed"])

    def test_a_custom_tool_gets_a_text(self):
        body = {"input": "a", "tools": [{"type": "custom", "name": "run"}], "temperature": 0,
                "tool_choice": {"type": "custom", "name": "run"}, "max_output_tokens": 200}
        found = self.stream(**body)
        item = found[-2]["item"]
        self.assertEqual((item["type"], item["name"]), ("custom_tool_call", "run"))
        done = [event for event in found if event["type"] == "response.custom_tool_call_input.done"]
        self.assertEqual([event["input"] for event in done], [item["input"]])

    def test_a_format_holds(self):
        schema = {"type": "object", "required": ["a"], "additionalProperties": False,
                  "properties": {"a": {"enum": ["x", "y"]}}}
        answer = self.ask(input="a", temperature=0,
                          text={"format": {"type": "json_schema", "name": "n", "schema": schema}})
        self.assertIn(json.loads(answer["output"][0]["content"][0]["text"]), [{"a": "x"}, {"a": "y"}])
        self.assertEqual(answer["text"]["format"]["schema"], schema)

    def test_logprobs_are_those_of_a_chat(self):
        asked = {"input": "a", "include": ["message.output_text.logprobs"], "top_logprobs": 2, "temperature": 0,
                 "structured_outputs": {"choice": ["a b c"]}}
        with Server("--chat-template", CHAT_TEMPLATE) as server:
            whole = self.ask(server=server, **asked)["output"][0]["content"][0]
            status, _, text = server.ask("POST", RESPONSES, asked | {"stream": True})
            chat = json.loads(server.ask("POST", CHATS, {
                "messages": [{"role": "user", "content": "a"}], "temperature": 0, "logprobs": True, "top_logprobs": 2,
                "structured_outputs": {"choice": ["a b c"]}})[2])["choices"][0]
            self.assertEqual(status, 200, text)
            self.assertEqual(whole["logprobs"], chat["logprobs"]["content"])
            last = named_events(text)[-1]["response"]["output"][0]["content"][0]
            # The token that ends it has no text, and no delta in vLLM's stream either.
            self.assertEqual(last["logprobs"], whole["logprobs"][:-1])
            self.assertEqual(server.stop(), 0)

    def test_what_is_stored_is_retrieved_and_gone_on_from(self):
        first = self.ask(input="a b", tools=[TOOL], tool_choice="required", temperature=0)
        self.assertEqual(self.ask("GET", f"{RESPONSES}/{first['id']}"), first)
        call = first["output"][0]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "c"}
        second = self.ask(input=[result], previous_response_id=first["id"], **GREEDY)
        told = self.ask(input=[{"role": "user", "content": "a b"}, *first["output"], result], **GREEDY)
        self.assertEqual(second["previous_response_id"], first["id"])
        self.assertEqual(nameless(second["output"]), nameless(told["output"]))
        self.assertEqual(second["usage"], told["usage"] | {"input_tokens_details": second["usage"]["input_tokens_details"]})
        streamed = self.stream(input="a", **GREEDY)[-1]["response"]
        self.assertEqual(self.ask("GET", f"{RESPONSES}/{streamed['id']}"), streamed)
        kept = self.ask(input="a", store=False, **GREEDY)
        self.ask("GET", f"{RESPONSES}/{kept['id']}", status=404)

    def test_the_background_is_polled_and_cancelled(self):
        with Server("--chat-template", CHAT_TEMPLATE, *TWO) as server:
            self.assertEqual(len(server.workers()), 2)
            with server.frozen():
                queued = self.ask(server=server, background=True, **ENDLESS)
                self.assertEqual((queued["status"], queued["output"], queued["usage"]), ("queued", [], None))
                path = f"{RESPONSES}/{queued['id']}"
                self.assertEqual(self.ask("GET", path, server=server), queued)
                self.ask(server=server, input="a", previous_response_id=queued["id"], status=400)
                self.assertEqual(metrics(server)[0]["cohort:background_responses"][""], 1)
                self.assertEqual(self.ask("POST", path + "/cancel", server=server), queued | {"status": "cancelled"})
            server.wait_load(0)
            self.assertEqual(self.ask("GET", path, server=server)["status"], "cancelled")
            self.assertIn("Cannot cancel", self.ask("POST", path + "/cancel", status=400,
                                                    server=server)["error"]["message"])
            done = self.ask(server=server, background=True, input="a", **GREEDY)
            server.wait_load(0)
            self.assertEqual(self.ask("GET", f"{RESPONSES}/{done['id']}", server=server)["status"], "incomplete")
            self.assertEqual(metrics(server)[0]["cohort:background_responses"][""], 0)
            self.assertEqual(server.stop(), 0)

    def test_a_client_that_leaves_leaves_nothing(self):
        with Server("--chat-template", CHAT_TEMPLATE, *TWO) as server:
            self.assertEqual(len(server.workers()), 2)
            with server.frozen():
                with contextlib.closing(server.connect()) as connection:
                    connection.request("POST", RESPONSES, json.dumps(ENDLESS | {"stream": True}),
                                       {"Content-Type": "application/json"})
                    self.assertTrue(connection.getresponse().readline().startswith(b"event: response.created"))
                server.wait_for(rb'"POST /v1/responses HTTP/1.1" 499')
            server.wait_load(0)
            self.assertEqual(metrics(server)[0]["cohort:stored_responses"][""], 0)
            self.assertEqual(server.stop(), 0)

    def test_a_name_in_the_background_is_its_own(self):
        with Server("--chat-template", CHAT_TEMPLATE, *TWO) as server:
            with server.frozen():
                first = threading.Thread(target=self.ask, kwargs={
                    "server": server, "input": "a", "request_id": "mine", "max_output_tokens": 1})
                first.start()
                server.wait_load(1)
                queued = self.ask(server=server, background=True, request_id="mine", **ENDLESS)
                self.ask("POST", RESPONSES + "/mine/cancel", server=server)
            first.join()
            server.wait_load(0)
            self.assertEqual(self.ask("GET", RESPONSES + "/mine", server=server), queued | {"status": "cancelled"})
            self.assertEqual(server.stop(), 0)

    def test_a_long_history_is_read_elsewhere(self):
        said = [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * 3000}]
        first = self.ask(input=said, truncation="auto", max_output_tokens=1)
        more = {"input": "b", "truncation": "auto", **GREEDY}
        second = self.ask(previous_response_id=first["id"], **more)
        told = self.ask(**more | {"input": [*said, *first["output"], {"role": "user", "content": "b"}]})
        self.assertEqual(nameless(second["output"]), nameless(told["output"]))
        self.assertEqual(second["usage"]["input_tokens"], told["usage"]["input_tokens"])

    def test_logprobs_of_text_that_was_held_back_come_with_it(self):
        asked = {"input": "a", "include": ["message.output_text.logprobs"], "temperature": 0, "tools": [TOOL],
                 "structured_outputs": {"choice": ["a <b> c"]}}
        whole = self.ask(**asked)["output"][0]["content"][0]
        found = self.stream(**asked)[-1]["response"]["output"][0]["content"][0]
        self.assertEqual(found["text"], whole["text"])
        n = len(found["logprobs"])
        self.assertEqual(found["logprobs"], whole["logprobs"][:n])
        self.assertLessEqual(len(whole["logprobs"]) - n, 1)  # that which ends it

    def test_what_is_kept_is_bounded(self):
        with Server("--chat-template", CHAT_TEMPLATE, "--max-stored-responses", "3", "--stored-response-bytes",
                    "64KiB", "--max-model-len", "2048") as server:
            ids = [self.ask(server=server, input="a", max_output_tokens=1)["id"] for _ in range(5)]
            found = [server.ask("GET", f"{RESPONSES}/{one}")[0] for one in ids]
            self.assertEqual(found, [404, 404, 200, 200, 200])
            for _ in range(4):
                self.ask(server=server, input="a", max_output_tokens=1, instructions="b " * 20000,
                         truncation="auto")
            figures = metrics(server)[0]
            self.assertLessEqual(figures["cohort:stored_response_bytes"][""], 65536)
            self.assertGreaterEqual(figures["cohort:evicted_responses_total"][""], 5)
            self.assertEqual(server.stop(), 0)
        with Server("--chat-template", CHAT_TEMPLATE, "--max-stored-responses", "0") as server:
            one = self.ask(server=server, input="a", max_output_tokens=1)
            self.ask("GET", f"{RESPONSES}/{one['id']}", status=404, server=server)
            self.ask(server=server, input="a", background=True, status=400)
            self.assertEqual(server.stop(), 0)

    def test_refusals_have_the_shape_of_openai(self):
        for body, status, param, named in (
                ({"input": "a", "previous_response_id": "no"}, 404, "response_id", "Response with id 'no' not found."),
                ({"input": "a", "model": "other"}, 404, "model", "does not exist"),
                ({"input": [{"type": "x"}]}, 400, "input", "Unsupported input item type: x"),
                ({"input": "a", "prompt": {"id": "p"}}, 400, "prompt", "prompt is not supported"),
                ({"input": "a", "temperature": -1}, 400, "temperature", "must be non-negative"),
                ({"input": "a", "max_output_tokens": 0}, 400, "max_tokens", "must be at least 1"),
                ({}, 400, "body.input", "Field required"),
                ({"input": 7}, 400, "body.input", "Input should be a valid string"),
                ({"input": "a", "truncation": "x"}, 400, "body.truncation", "Input should be 'auto' or 'disabled'")):
            error = self.ask(status=status, **(body or {"model": "tiny"}))["error"]
            self.assertEqual((error["code"], error["param"]), (status, param), error)
            self.assertIn(named, error["message"])
        self.ask("GET", RESPONSES + "/no", status=404)
        kept = self.ask(input="a", max_output_tokens=1)
        self.ask("GET", f"{RESPONSES}/{kept['id']}?xstream=true", status=200)
        self.ask("GET", f"{RESPONSES}/{kept['id']}?a=1&stream=true", status=400)
        self.ask("POST", RESPONSES + "/no/cancel", status=404)
        self.ask("GET", RESPONSES, status=405)

    def test_a_name_is_taken_once(self):
        self.ask(input="a", request_id="mine", max_output_tokens=1)
        self.assertEqual(self.ask("GET", RESPONSES + "/mine")["id"], "mine")
        self.ask(input="a", request_id="mine", max_output_tokens=1, status=400)
        self.ask(input="a", request_id="a/b", max_output_tokens=1, status=400)


if __name__ == "__main__":
    unittest.main()
