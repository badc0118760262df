"login.microsoftonline.com: tokens that decode as Azure's do, expire, and are checked"
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import parse_qs

from .arm import PRINCIPAL, TENANT, Refused
from .proxy import Answer, Request

# Of id tokens that Azure is told to trust: GitHub, and Azure DevOps
ISSUERS = ("https://token.actions.githubusercontent.com", f"https://login.microsoftonline.com/{TENANT}/v2.0")


def encoded(value: dict) -> str: return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def claimed(token: str) -> dict:
    "What a token says"
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Tokens:
    "Gives out tokens and knows whether one is still good"
    def __init__(self):
        self.lifetime, self.given, self.revoked = 3600, 0, set()
        self.subject = ""  # Of a federated credential: whose id tokens are taken; empty takes those of all jobs

    def new(self, audience: str = "https://ml.azure.com") -> str:
        "A token for one audience"
        self.given += 1
        start = int(time.time())
        claims = {"aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": start, "nbf": start,
                  "exp": start + self.lifetime, "oid": PRINCIPAL,
                  "tid": TENANT, "appid": PRINCIPAL, "upn": "loopback@example.com", "name": "loopback", "ver": "1.0",
                  "uti": str(self.given)}
        return f"{encoded({'typ': 'JWT', 'alg': 'none'})}.{encoded(claims)}.{encoded({'signature': 'none'})}"

    def check(self, token: str) -> dict:
        "The claims of a token that is good"
        try: claims = claimed(token)
        except (IndexError, ValueError):
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.") from None
        if claims.get("exp", 0) < time.time() or token in self.revoked or claims.get("uti") in self.revoked:
            raise Refused(401, "ExpiredAuthenticationToken",
                          "The access token expiry UTC time is earlier than the current UTC time.")
        return claims

    def distrusted(self, assertion: str) -> str:
        "Why an id token of another issuer is not taken; empty where it is"
        try: claims = claimed(assertion)
        except (IndexError, ValueError): return "AADSTS50027: JWT token is invalid or malformed."
        if claims.get("exp", 0) < time.time():
            return "AADSTS700024: Client assertion is not within its valid time range."
        if claims.get("iss") not in ISSUERS:
            return ("AADSTS700211: No matching federated identity record found for presented assertion issuer "
                    f"'{claims.get('iss')}'.")
        if claims.get("aud") != "api://AzureADTokenExchange":
            return ("AADSTS700212: No matching federated identity record found for presented assertion audience "
                    f"'{claims.get('aud')}'.")
        if self.subject and claims.get("sub") != self.subject:
            return ("AADSTS700213: No matching federated identity record found for presented assertion subject "
                    f"'{claims.get('sub')}'.")
        return ""

    def expire(self):
        "All tokens given so far are no longer good"
        self.revoked |= {str(number) for number in range(1, self.given + 1)}

    def answer(self, request: Request) -> Answer:
        "The two documents that a client looks up, and the token endpoint"
        base = f"https://login.microsoftonline.com/{TENANT}"
        if "openid-configuration" in request.path:
            return Answer(200, {"token_endpoint": f"{base}/oauth2/v2.0/token",
                                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                                "issuer": f"{base}/v2.0"})
        if "discovery/instance" in request.path:
            aliases = {"preferred_network": "login.microsoftonline.com", "preferred_cache": "login.windows.net",
                       "aliases": ["login.microsoftonline.com"]}
            return Answer(200, {"tenant_discovery_endpoint": f"{base}/v2.0/.well-known/openid-configuration",
                                "api-version": "1.1", "metadata": [aliases]})
        if not request.path.endswith("/token"): return Answer(404, {"error": "not_found"})
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if not (form.get("client_secret") or form.get("client_assertion")):
            return Answer(401, {"error": "invalid_client",
                                "error_description": "AADSTS7000216: a client secret or assertion is required"})
        if form.get("client_assertion") and (why := self.distrusted(form["client_assertion"])):
            return Answer(401, {"error": "invalid_client", "error_description": why})
        audience = (form.get("scope", form.get("resource", "")).split(" ")[0].removesuffix("/.default")
                    or "https://ml.azure.com")
        return Answer(200, {"token_type": "Bearer", "expires_in": self.lifetime, "ext_expires_in": self.lifetime,
                            "access_token": self.new(audience)})
